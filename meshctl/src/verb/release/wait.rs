//! Waiting for a release, with progress: how many of which are ready, and what keeps the others.

use std::time::Instant;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::install::patience;
use crate::app::Run;
use crate::args::kubernetes::Values;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::release::LOOK_AGAIN;
use crate::kubernetes::{Cluster, Error};
use crate::output;
use crate::verb::check::pod_state;

const OURS: &str = "app.kubernetes.io/name=isthmus";

/// Ready and wanted of both workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    servers: (i32, i32),
    agents: (i32, i32),
}

impl Progress {
    fn is_done(self) -> bool {
        let is_done = |(ready, wanted): (i32, i32)| wanted > 0 && ready >= wanted;
        is_done(self.servers) && is_done(self.agents)
    }

    fn text(self) -> String {
        let Self { servers: (s, of_s), agents: (a, of_a) } = self;
        format!("mesh-apiserver {s}/{of_s} ready, agents {a}/{of_a} ready")
    }
}

/// Until all is ready, or the time is over. A dry run has nothing to wait for.
pub(super) async fn until_running(
    run: &Run,
    cluster: &Cluster,
    namespace: &str,
    values: &Values,
) -> Result<Exit, Failure> {
    if values.dry_run {
        output::note("nothing was changed: this was a dry run");
        return Ok(Exit::Ok);
    }
    if values.wait == 0 {
        return Ok(Exit::Ok);
    }
    let deadline = Instant::now() + patience(values);
    let mut last = None;
    loop {
        let progress = progress(cluster, namespace).await.map_err(|error| error.failure(&cluster.context))?;
        if last != Some(progress) {
            output::note(format!("{}: {}", cluster.context, progress.text()));
            last = Some(progress);
        }
        if progress.is_done() {
            let context = &cluster.context;
            output::note(format!("next: meshctl check --context {context}; meshctl connect {context} OTHER"));
            return Ok(Exit::Ok);
        }
        if Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let why = why(cluster, namespace).await;
    let failure =
        Failure::said(Exit::Degraded, &cluster.context, format!("not all is ready after {} s{why}", values.wait))
            .hint(format!("meshctl check --context {} says what to do", cluster.context));
    run.output.failure(&failure);
    Ok(Exit::Degraded)
}

async fn progress(cluster: &Cluster, namespace: &str) -> Result<Progress, Error> {
    let of = |component: &str| ListParams::default().labels(&format!("{OURS},app.kubernetes.io/component={component}"));
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
    let sets = cluster.ask("list", "statefulsets.apps", sets.list(&of("mesh-apiserver"))).await?;
    let agents = Api::<DaemonSet>::namespaced(cluster.client.clone(), namespace);
    let agents = cluster.ask("list", "daemonsets.apps", agents.list(&of("node-agent"))).await?;
    let mut progress = Progress::default();
    if let Some(set) = sets.items.into_iter().next() {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = set.status.unwrap_or_default();
        // Until the controller has seen it, what it says is of the last release.
        let is_seen = status.observed_generation >= set.metadata.generation;
        let is_new = status.update_revision.is_none() || status.updated_replicas.unwrap_or(0) >= wanted;
        let ready = if is_seen && is_new { status.ready_replicas.unwrap_or(0) } else { 0 };
        progress.servers = (ready, wanted);
    }
    if let Some(set) = agents.items.into_iter().next() {
        let status = set.status.unwrap_or_default();
        let wanted = status.desired_number_scheduled;
        let is_seen = status.observed_generation >= set.metadata.generation;
        let is_new = status.updated_number_scheduled.unwrap_or(0) >= wanted;
        progress.agents = (if is_seen && is_new { status.number_ready } else { 0 }, wanted);
    }
    Ok(progress)
}

/// The first pod that does not run.
async fn why(cluster: &Cluster, namespace: &str) -> String {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let pods = cluster.ask("list", "pods", pods.list(&ListParams::default().labels(OURS))).await;
    let states: Vec<_> = pods.map(|pods| pods.items.iter().map(pod_state).collect()).unwrap_or_default();
    match states.into_iter().find(|state| !state.is_ready) {
        Some(state) => match state.trouble {
            Some((reason, message)) => format!(": pod {}: {reason}: {message}", state.name),
            None => format!(": pod {} is not ready yet", state.name),
        },
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_before_there_is_something() {
        assert!(!Progress::default().is_done());
        assert!(!Progress { servers: (1, 1), agents: (1, 2) }.is_done());
        let done = Progress { servers: (1, 1), agents: (2, 2) };
        assert!(done.is_done());
        assert_eq!(done.text(), "mesh-apiserver 1/1 ready, agents 2/2 ready");
    }
}
