//! API servers of the serving cluster are killed and come back, Kubernetes' and the mesh's: what is written and asked then, and
//! whether the other cluster's node misses anything meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;
use topology_tests::bench::stats::rounded;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::metrics::Counters;
use topology_tests::provider::{Clusters as _, Part};

use crate::backends::Backends;
use crate::fill;
use crate::plan::{ENDPOINTS_OF_A_SERVICE, MESH, Pod};
use crate::side::Side;
use crate::usage::DISPATCHED;

const SEEN: Duration = Duration::from_mins(1);
const TROUBLE: &str = "isthmus_source_trouble";
const OBJECTS: &str = "isthmus_source_objects";

/// Whose API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, Serialize)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Whose {
    KubeApiserver,
    MeshApiserver,
}

#[derive(Debug, Serialize)]
pub(crate) struct Restart {
    pub(crate) killed: Whose,
    /// From the kill until it served again, in seconds.
    pub(crate) away: f64,
    /// From then until the mesh followed the cluster's objects again.
    pub(crate) followed_after: f64,
    /// Lists and watches of the mesh, by its own count, and all requests of its account, by kube-apiserver's.
    pub(crate) source_requests: f64,
    pub(crate) mesh_requests: f64,
    /// For one new endpoint, which came after the restart; and all that was written before it.
    pub(crate) keys_written: f64,
    pub(crate) keys_before: f64,
    /// In the other cluster's map, at any moment, of those that were there.
    pub(crate) fewest_backends: usize,
    pub(crate) backends: usize,
}

/// Moments of a restart.
struct Moments {
    killed: Instant,
    back: Instant,
    followed: Instant,
}

/// `more` is an endpoint that comes after all that was there: when it is in the map, everything was dealt with.
pub(crate) fn restart(run: &Kubernetes, whose: Whose, a: &Side<'_>, map: &Backends, more: Pod) -> Result<Restart> {
    let (mesh, kubernetes) = (a.mesh()?, a.api_server()?);
    let (backends, is_over) = (map.all()?, AtomicBool::new(false));
    let (moments, fewest) = std::thread::scope(|scope| {
        let fewest = scope.spawn(|| map.fewest(&is_over));
        let done = match whose {
            Whose::KubeApiserver => kubernetes_away(run, a),
            Whose::MeshApiserver => mesh_away(run, a, mesh.sum(OBJECTS)),
        };
        let done = done.and_then(|moments| dealt_with(a, map, more).map(|()| moments));
        is_over.store(true, Ordering::Relaxed);
        let fewest = fewest.join().map_err(|_panic| anyhow!("the look at the map panicked"))?;
        done.and_then(|moments| Ok((moments, fewest?)))
    })?;
    // A process that was started again counts from nothing.
    let since = |is_new: bool, before: f64, now: f64| if is_new { now } else { now - before };
    let now = a.mesh()?;
    let of_mesh = |name| since(whose == Whose::MeshApiserver, mesh.sum(name), now.sum(name));
    let asked = |counters: &Counters| counters.by(DISPATCHED, "flow_schema").get(MESH).copied().unwrap_or_default();
    Ok(Restart {
        killed: whose,
        away: rounded((moments.back - moments.killed).as_secs_f64()),
        followed_after: rounded((moments.followed - moments.back).as_secs_f64()),
        source_requests: of_mesh("isthmus_source_requests_total"),
        mesh_requests: since(whose == Whose::KubeApiserver, asked(&kubernetes), asked(&a.api_server()?)),
        keys_written: of_mesh("isthmus_export_keys_total"),
        keys_before: mesh.sum("isthmus_export_keys_total"),
        fewest_backends: fewest,
        backends,
    })
}

fn kubernetes_away(run: &Kubernetes, a: &Side<'_>) -> Result<Moments> {
    let killed = Instant::now();
    run.kill(a.release.name(), Part::KubeApiserver)?;
    a.until("the mesh to miss the API server", |counters| counters.sum(TROUBLE) > 0.0)?;
    run.start_again(a.release.name(), Part::KubeApiserver)?;
    let back = Instant::now();
    let followed = a.until("the mesh to follow the API server again", |counters| counters.sum(TROUBLE) < 1.0)?;
    Ok(Moments { killed, back, followed })
}

/// Its kubelet starts it again. It follows when it has read what the one before it had read.
fn mesh_away(run: &Kubernetes, a: &Side<'_>, objects: f64) -> Result<Moments> {
    let killed = Instant::now();
    run.kill_process(a.node(), "mesh-apiserver")?;
    wait_for("mesh-apiserver to be there again", SEEN, || a.mesh().map(Some))?;
    let back = Instant::now();
    let read = |counters: &Counters| counters.sum(OBJECTS) >= objects && counters.sum(TROUBLE) < 1.0;
    let followed = a.until("the new mesh-apiserver to follow the API server", read)?;
    Ok(Moments { killed, back, followed })
}

fn dealt_with(a: &Side<'_>, map: &Backends, more: Pod) -> Result<()> {
    a.wait_for(fill::one_more(&a.api, a.plan(), more))?;
    wait_for("the new endpoint in the other cluster's map", SEEN, || {
        let found = map.of(more.service)?;
        ensure!(found > ENDPOINTS_OF_A_SERVICE, "{found} backends");
        Ok(Some(()))
    })?;
    a.still()
}
