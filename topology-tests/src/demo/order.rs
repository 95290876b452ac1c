//! The last resort: a third cluster, reached only through ordered failover.

use std::time::Duration;

use anyhow::Result;

use super::clients::GLOBAL;
use super::result::Outcome;
use super::story::Stage;
use crate::clock::monotonic_ns;

const SWITCHED: Duration = Duration::from_secs(10);
const STEADY: Duration = Duration::from_secs(2);
const MS: u64 = 1_000_000;
/// How long a cluster's last backend may be missed.
const WINDOW_MS: u64 = 1_000;

/// While the first two have backends, the third must answer nothing.
pub(super) fn third_joins(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let control = stage.lab.control("cluster-a")?;
    control.annotate_service("shop", GLOBAL, "mesh.isthmus.io/failover", Some("cluster-b,cluster-c"))?;
    for first in ["cluster-a", "cluster-b"] {
        stage.mesh.meshctl(stage.lab, &["connect", first, "cluster-c"])?;
    }
    until_answered_by(stage, "cluster-a")?;
    stage.traffic.observe(STEADY)?;
    outcome.answers_out_of_order = answers_from(stage, "cluster-c", 0);
    Ok(((), format!("cluster-a answers, {} answers from cluster-c", outcome.answers_out_of_order)))
}

pub(super) fn two_lose_their_backends(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let mut slowest = 0;
    for (dying, next) in [("cluster-a", "cluster-b"), ("cluster-b", "cluster-c")] {
        let before = monotonic_ns();
        for pod in stage.lab.pods().into_iter().filter(|pod| pod.cluster == dying && pod.owner.1 == GLOBAL) {
            stage.lab.delete_pod(&pod)?;
        }
        let gone = monotonic_ns();
        until_answered_by(stage, next)?;
        stage.traffic.observe(STEADY)?;
        // A pod that is deleted takes its open connections with it, the first one as well as the last.
        stage.traffic.excuse(GLOBAL, before, gone + WINDOW_MS * MS);
        slowest = slowest.max(stage.traffic.last_failure_ms(GLOBAL, gone));
    }
    outcome.ordered_failover_ms = slowest;
    let answers = answers_from(stage, "cluster-c", 0);
    outcome.answers_from_the_last_resort = answers;
    Ok(((), format!("cluster-b, then cluster-c answers ({answers} answers), the last failure after {slowest} ms")))
}

fn answers_from(stage: &Stage<'_>, cluster: &str, since: u64) -> u64 {
    let answers = stage.traffic.answered(since).filter(|seen| seen.record.target == GLOBAL);
    answers.filter(|seen| seen.record.answer.cluster == cluster).count() as u64
}

/// Waits until every client has an answer from this cluster. Connections that were open before stay where they are.
fn until_answered_by(stage: &mut Stage<'_>, cluster: &str) -> Result<()> {
    let clients = stage.clients.clone();
    let start = monotonic_ns();
    stage.traffic.until(&format!("an answer from {cluster} to every client"), SWITCHED, |traffic| {
        let answered = |client: &String| {
            let mut answers =
                traffic.answered(start).filter(|seen| seen.client == *client && seen.record.target == GLOBAL);
            answers.any(|seen| seen.record.answer.cluster == cluster)
        };
        clients.iter().all(answered)
    })
}
