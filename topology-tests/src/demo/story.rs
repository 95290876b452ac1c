//! The order of events, from connect to disconnect.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::clients::{Clients, DIRECT, GLOBAL, REMOTE};
use super::result::Outcome;
use super::timeline::Timeline;
use super::traffic::Traffic;
use super::{faults, order};
use crate::clock::{monotonic_ns, ms_between};
use crate::lab::Lab;
use crate::load::record::Kind;
use crate::mesh::Mesh;

pub(super) const PODS_READY: Duration = Duration::from_secs(30);
const JOINED: Duration = Duration::from_secs(30);
const STEADY: Duration = Duration::from_secs(4);
/// Of each kind of evidence.
const SAMPLES: usize = 8;

/// What every part of the story works with.
pub(super) struct Stage<'a> {
    pub(super) lab: &'a Lab,
    pub(super) mesh: &'a Mesh,
    pub(super) clients: Vec<String>,
    pub(super) traffic: Traffic,
}

pub(super) fn tell(lab: &Lab, mesh: &Mesh, timeline: &mut Timeline, outcome: &mut Outcome) -> Result<()> {
    let clients = Clients::find(lab)?;
    let names = clients.pods().iter().map(|pod| pod.name.clone()).collect();
    let mut stage = Stage { lab, mesh, clients: names, traffic: Traffic::new(timeline.zero_ns()) };
    lab.wan.reset_counters()?;
    chapter(timeline, &mut stage, "meshctl connect cluster-a cluster-b, under load", |stage| {
        join(stage, &clients, outcome)
    })?;
    chapter(timeline, &mut stage, "steady load to the global service, the remote one, and pod to pod", steady)?;
    chapter(timeline, &mut stage, "kill -9 a backend of the global service", |stage| {
        faults::backend_kill(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "kill -9 the agent of a1, start it after 5 s", |stage| {
        faults::agent_restart(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "kill -9 the leading replica of cluster-a, start it after 5 s", |stage| {
        faults::replica_kill(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "kill -9 all replicas of cluster-b, start them after 5 s", |stage| {
        faults::apiserver_restart(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "kill -9 the tunnel process of a1, start it again", |stage| {
        faults::tunnel_kill(stage, outcome)
    })?;
    let killed_at = chapter(timeline, &mut stage, "cut all nodes of cluster-b off, then kill them", |stage| {
        faults::cluster_kill(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "restore cluster-b", |stage| faults::cluster_restore(stage, killed_at, outcome))?;
    chapter(timeline, &mut stage, "steady again", steady)?;
    chapter(timeline, &mut stage, "meshctl connect cluster-c with both: third in the failover order", |stage| {
        order::third_joins(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "the global service loses its backends in cluster-a, then in cluster-b", |stage| {
        order::two_lose_their_backends(stage, outcome)
    })?;
    chapter(timeline, &mut stage, "end the load, meshctl disconnect every cluster from every other", part)?;
    add_up(&stage, &clients, outcome)
}

/// A step, with the packets that crossed the WAN in clear meanwhile, if any.
fn chapter<'a, T>(
    timeline: &mut Timeline,
    stage: &mut Stage<'a>,
    what: &str,
    work: impl FnOnce(&mut Stage<'a>) -> Result<(T, String)>,
) -> Result<T> {
    let wan = &stage.lab.wan;
    timeline.step(what, || {
        let before = wan.counters()?.clear;
        let (value, came_of_it) = work(stage)?;
        let clear = wan.counters()?.clear - before;
        let in_clear = if clear == 0 { String::new() } else { format!(", {clear} packets in clear") };
        Ok((value, came_of_it + &in_clear))
    })
}

fn steady(stage: &mut Stage<'_>) -> Result<((), String)> {
    let since = monotonic_ns();
    stage.traffic.observe(STEADY)?;
    Ok(((), format!("{} requests answered", stage.traffic.answered(since).count())))
}

fn part(stage: &mut Stage<'_>) -> Result<((), String)> {
    let loads = stage.traffic.take_loads();
    stage.traffic.stop(loads)?;
    for [one, other] in [["cluster-a", "cluster-b"], ["cluster-a", "cluster-c"], ["cluster-b", "cluster-c"]] {
        stage.mesh.meshctl(stage.lab, &["disconnect", one, other])?;
    }
    Ok(((), "parted".into()))
}

/// Joins the clusters under load on the global service; when its answers come from both, the rest of the load starts.
///
/// What only the other cluster has cannot be asked for earlier: nobody here knows those addresses before they are joined,
/// and a packet to one would leave by the default route.
fn join(stage: &mut Stage<'_>, clients: &Clients, outcome: &mut Outcome) -> Result<((), String)> {
    let (lab, mesh) = (stage.lab, stage.mesh);
    for load in clients.start_global(lab, "alone")? {
        stage.traffic.add(load);
    }
    let names = stage.clients.clone();
    stage
        .traffic
        .until("an answer from the own cluster", JOINED, |traffic| traffic.all_answered(&names, &[GLOBAL], 0))?;
    let start = monotonic_ns();
    std::thread::scope(|scope| -> Result<()> {
        let connect = scope.spawn(|| mesh.meshctl(lab, &["connect", "cluster-a", "cluster-b"]));
        stage.traffic.until("an answer from the other cluster to every client", JOINED, |traffic| {
            let foreign = |client: &String| {
                let mut answers = traffic.answered(start).filter(|seen| seen.client == *client);
                answers.any(|seen| seen.record.answer.cluster == "cluster-b")
            };
            names.iter().all(foreign)
        })?;
        connect.join().map_err(|_panic| anyhow!("meshctl connect panicked"))?.map(drop)
    })?;
    let foreign = stage.traffic.answered(start).filter(|seen| seen.record.answer.cluster == "cluster-b");
    let first = foreign.map(|seen| seen.record.end_ns).min().context("an answer was seen")?;
    outcome.connect_to_first_answer_ms = ms_between(start, first);
    // Long-lived connections choose their backend once: those opened before had only this cluster's to choose from.
    let local_only = stage.traffic.take_loads();
    for load in clients.start_global(lab, "joined")?.into_iter().chain(clients.start_remote(lab)?) {
        stage.traffic.add(load);
    }
    stage.traffic.stop(local_only)?;
    let targets = [GLOBAL, REMOTE, DIRECT];
    stage
        .traffic
        .until("an answer from every target", JOINED, |traffic| traffic.all_answered(&names, &targets, start))?;
    let all = monotonic_ns();
    outcome.connect_to_all_answers_ms = ms_between(start, all);
    for target in targets {
        stage.traffic.excuse(target, start, all);
    }
    Ok(((), format!("first answer after {} ms", outcome.connect_to_first_answer_ms)))
}

fn add_up(stage: &Stage<'_>, clients: &Clients, outcome: &mut Outcome) -> Result<()> {
    let traffic = &stage.traffic;
    let of_kind = |kind: Kind| traffic.seen.iter().filter(move |seen| seen.record.kind == kind);
    outcome.requests = of_kind(Kind::Request).count() as u64;
    outcome.long_lived_connections = of_kind(Kind::Open).filter(|seen| !seen.record.is_failure()).count() as u64;
    outcome.answers_by_cluster = traffic.answers_by_cluster();
    let (errors, excused) = traffic.judge();
    outcome.errors = errors.len() as u64;
    outcome.errors_in_windows = excused.len() as u64;
    outcome.samples = errors.iter().take(SAMPLES).map(|seen| seen.line(traffic.zero_ns)).collect();
    let own_address = |client: &str| {
        let pod = clients.pods().iter().find(|pod| pod.name == client);
        pod.and_then(|pod| pod.ip).map(|ip| format!("{ip}:")).unwrap_or_default()
    };
    let foreign = traffic.answered(0).filter(|seen| seen.record.answer.cluster == "cluster-b");
    let masqueraded = foreign.filter(|seen| !seen.record.answer.peer.starts_with(&own_address(&seen.client)));
    outcome.masqueraded_answers = masqueraded.count() as u64;
    let counters = stage.lab.wan.counters()?;
    outcome.clear_packets_on_wan = counters.clear;
    outcome.wireguard_packets_on_wan = counters.wireguard;
    let seen = stage.lab.wan.clear_seen()?.into_iter().take(SAMPLES);
    outcome.samples.extend(seen.map(|line| format!("clear on the WAN: {line}")));
    Ok(())
}
