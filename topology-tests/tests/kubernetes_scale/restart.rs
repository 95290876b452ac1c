//! kube-apiserver of the serving cluster is killed and comes back: what its mesh-apiserver writes and asks then, and whether the
//! other cluster's node misses anything meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::Serialize;
use topology_tests::bench::stats::rounded;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::provider::{Clusters as _, Part};

use crate::backends::Backends;
use crate::fill;
use crate::plan::{ENDPOINTS_OF_A_SERVICE, MESH, Pod};
use crate::side::Side;
use crate::usage::DISPATCHED;

const SEEN: Duration = Duration::from_mins(1);

#[derive(Debug, Serialize)]
pub(crate) struct Restart {
    /// From the kill until the API server was ready again, in seconds.
    pub(crate) away: f64,
    /// From then until the mesh followed it.
    pub(crate) followed_after: f64,
    /// Lists and watches of the mesh, by its own count, and all requests of its account, by the new API server's.
    pub(crate) source_requests: f64,
    pub(crate) mesh_requests: f64,
    /// For one new endpoint, which came after the restart; and all that was written before it.
    pub(crate) keys_written: f64,
    pub(crate) keys_before: f64,
    /// In the other cluster's map, at any moment, of those that were there.
    pub(crate) fewest_backends: usize,
    pub(crate) backends: usize,
}

pub(crate) fn restart(run: &Kubernetes, a: &Side<'_>, map: &Backends) -> Result<Restart> {
    let (before, backends, is_over) = (a.mesh()?, map.all()?, AtomicBool::new(false));
    let count = |name: &str| a.mesh().map(|now| now.sum(name) - before.sum(name));
    std::thread::scope(|scope| {
        let fewest = scope.spawn(|| map.fewest(&is_over));
        let done = away_and_back(run, a, map);
        is_over.store(true, Ordering::Relaxed);
        let fewest = fewest.join().map_err(|_panic| anyhow!("the look at the map panicked"))??;
        let (away, followed_after) = done?;
        Ok(Restart {
            away: rounded(away.as_secs_f64()),
            followed_after: rounded(followed_after.as_secs_f64()),
            source_requests: count("isthmus_source_requests_total")?,
            mesh_requests: a.api_server()?.by(DISPATCHED, "flow_schema").get(MESH).copied().unwrap_or_default(),
            keys_written: count("isthmus_export_keys_total")?,
            keys_before: before.sum("isthmus_export_keys_total"),
            fewest_backends: fewest,
            backends,
        })
    })
}

/// How long it was away, and how long after that the mesh followed it. A change that comes after all that was there shows that
/// everything was dealt with.
fn away_and_back(run: &Kubernetes, a: &Side<'_>, map: &Backends) -> Result<(Duration, Duration)> {
    let trouble = "isthmus_source_trouble";
    let killed = Instant::now();
    run.kill(a.release.name(), Part::KubeApiserver)?;
    a.until("the mesh to miss the API server", |counters| counters.sum(trouble) > 0.0)?;
    run.start_again(a.release.name(), Part::KubeApiserver)?;
    let back = Instant::now();
    let followed = a.until("the mesh to follow the API server again", |counters| counters.sum(trouble) < 1.0)?;
    let more = Pod { service: 0, index: ENDPOINTS_OF_A_SERVICE };
    a.wait_for(fill::one_more(&a.api, a.plan(), more))?;
    wait_for("the new endpoint in the other cluster's map", SEEN, || {
        Ok((map.of(0)? > ENDPOINTS_OF_A_SERVICE).then_some(()))
    })?;
    a.still()?;
    Ok((back - killed, followed - back))
}
