//! The faults of the demo: each is made, watched until it is over, and measured.

use std::time::Duration;

use anyhow::Result;

use super::clients::{DIRECT, GLOBAL, REMOTE};
use super::result::Outcome;
use super::story::Stage;
use crate::clock::monotonic_ns;

const DOWN: Duration = Duration::from_secs(5);
const AFTERWARDS: Duration = Duration::from_secs(2);
const RECOVERED: Duration = Duration::from_secs(40);
const ALL: [&str; 3] = [GLOBAL, REMOTE, DIRECT];
const MS: u64 = 1_000_000;

pub(super) fn backend_kill(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let at = stage.lab.kill_pod("cluster-b/shop/catalog-0")?;
    // Long enough for the kubelet to start it again: its return must break nothing either.
    stage.traffic.observe(Duration::from_secs(4))?;
    stage.traffic.excuse(GLOBAL, at, at + 1000 * MS);
    outcome.backend_kill_failover_ms = stage.traffic.last_failure_ms(GLOBAL, at);
    let failures = stage.traffic.failures(GLOBAL, at, u64::MAX).count();
    Ok(((), format!("{failures} failures, the last after {} ms", outcome.backend_kill_failover_ms)))
}

pub(super) fn agent_restart(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let at = monotonic_ns();
    stage.mesh.kill_agent("a1")?;
    stage.traffic.observe(DOWN)?;
    stage.mesh.start_agent(stage.lab, "a1")?;
    stage.mesh.wait_agent_ready(stage.lab, "a1")?;
    stage.traffic.observe(AFTERWARDS)?;
    outcome.agent_restart_errors = errors_since(stage, at);
    Ok(((), format!("{} failures", outcome.agent_restart_errors)))
}

pub(super) fn replica_kill(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let leader = stage.mesh.controller(stage.lab, "cluster-a")?;
    let at = monotonic_ns();
    stage.mesh.kill_apiserver("cluster-a", leader)?;
    stage.traffic.observe(DOWN)?;
    let next = stage.mesh.controller(stage.lab, "cluster-a")?;
    stage.mesh.start_apiserver(stage.lab, "cluster-a", leader)?;
    stage.mesh.wait_apiserver_ready(stage.lab, "cluster-a", leader)?;
    stage.traffic.observe(AFTERWARDS)?;
    outcome.replica_kill_errors = errors_since(stage, at);
    Ok(((), format!("{} failures, replica {next} took over from {leader}", outcome.replica_kill_errors)))
}

pub(super) fn apiserver_restart(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let at = monotonic_ns();
    stage.mesh.kill_apiservers(stage.lab, "cluster-b")?;
    stage.traffic.observe(DOWN)?;
    stage.mesh.start_apiservers(stage.lab, "cluster-b")?;
    stage.mesh.wait_apiservers_ready(stage.lab, "cluster-b")?;
    stage.traffic.observe(AFTERWARDS)?;
    outcome.apiserver_restart_errors = errors_since(stage, at);
    Ok(((), format!("{} failures", outcome.apiserver_restart_errors)))
}

pub(super) fn tunnel_kill(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<((), String)> {
    let at = monotonic_ns();
    if !stage.mesh.kill_tunnel("a1")? {
        return Ok(((), "there is none: the kernel is the tunnel, or nothing is encrypted".into()));
    }
    stage.mesh.start_tunnel(stage.lab, "a1")?;
    let clients = stage.clients.clone();
    // Every target again, asked after the kill: a tunnel that does not come back shows here.
    stage.traffic.observe(AFTERWARDS)?;
    let since = monotonic_ns();
    stage.traffic.until("an answer from every target", RECOVERED, |traffic| {
        traffic.all_answered(&clients, &[REMOTE, DIRECT], since)
    })?;
    stage.traffic.observe(AFTERWARDS)?;
    let recovered = ALL.map(|target| stage.traffic.last_failure_ms(target, at)).into_iter().max().unwrap_or(0);
    outcome.tunnel_kill_recovery_ms = Some(recovered);
    for target in ALL {
        stage.traffic.excuse(target, at, at + recovered * MS);
    }
    Ok(((), format!("works again after {recovered} ms")))
}

/// The uplinks go first, so that no process can say goodbye. Gives the time of the kill.
pub(super) fn cluster_kill(stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<(u64, String)> {
    let at = monotonic_ns();
    for node in &stage.lab.cluster_plan("cluster-b")?.nodes {
        stage.lab.set_uplink(&node.name, false)?;
    }
    stage.lab.halt_pods("cluster-b")?;
    stage.mesh.kill_cluster(stage.lab, "cluster-b")?;
    stage.traffic.observe(Duration::from_secs(6))?;
    stage.traffic.excuse(GLOBAL, at, at + 3000 * MS);
    outcome.cluster_kill_failover_ms = stage.traffic.last_failure_ms(GLOBAL, at);
    Ok((at, format!("the global service fails for the last time after {} ms", outcome.cluster_kill_failover_ms)))
}

pub(super) fn cluster_restore(stage: &mut Stage<'_>, killed_at: u64, outcome: &mut Outcome) -> Result<((), String)> {
    let start = monotonic_ns();
    for node in &stage.lab.cluster_plan("cluster-b")?.nodes {
        stage.lab.set_uplink(&node.name, true)?;
    }
    stage.mesh.restart_cluster(stage.lab, "cluster-b")?;
    stage.lab.resume_pods("cluster-b")?;
    let clients = stage.clients.clone();
    stage.traffic.until("an answer from what only cluster-b has", RECOVERED, |traffic| {
        traffic.all_answered(&clients, &[REMOTE, DIRECT], start)
    })?;
    // The global service must be answered by both clusters again.
    stage.traffic.until("an answer of the global service from cluster-b", RECOVERED, |traffic| {
        let mut answers = traffic.answered(start).filter(|seen| seen.record.target == GLOBAL);
        answers.any(|seen| seen.record.answer.cluster == "cluster-b")
    })?;
    let end = monotonic_ns();
    outcome.cluster_restore_ms = (end - start) / MS;
    for target in [REMOTE, DIRECT] {
        stage.traffic.excuse(target, killed_at, end);
    }
    Ok(((), format!("everything answers after {} ms", outcome.cluster_restore_ms)))
}

/// Failures of any target since a time: no fault excuses them.
fn errors_since(stage: &Stage<'_>, at: u64) -> u64 {
    ALL.iter().map(|target| stage.traffic.failures(target, at, u64::MAX).count() as u64).sum()
}
