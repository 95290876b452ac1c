//! Many agents on one of three replicas, which is killed: all go on at the others, where they had stopped.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::agent::{Agent, Wants};
use super::bootstrap::{PATIENCE, begin, follow};
use super::server::Server;
use super::{Plan, Results, figures};
use crate::bench::stats::{percentile, rounded};

/// Changes a second while it happens, so that going on where one stopped means something. Each is as many messages as there
/// are agents.
const CHURN: u32 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Default, Serialize)]
pub struct Failover {
    pub streams: usize,
    /// Until all of them, started at once, had the whole view.
    pub start_s: f64,
    /// The replica that they were on, once they were all there.
    pub replica_rss_mib: f64,
    /// From the kill until half, 99 in 100, and the last of them followed elsewhere.
    pub resume_p50_s: f64,
    pub resume_p99_s: f64,
    pub resume_last_s: f64,
    /// Whole views sent after the kill.
    pub snapshots_after: u64,
    /// Agents that came to the newest revision without one.
    pub caught_up: usize,
}

pub(super) async fn measure(plan: &Plan, results: &mut Results) -> Result<()> {
    let scale = &plan.scale;
    let (mut server, mut peers) = begin(plan, "streams", scale.replicas, scale.stream_clusters, scale.shape)?;
    let probe = follow(&server, "probe").await?;
    server.join(&peers.records()?).await?;
    let shape = scale.shape;
    let each = (1 + shape.nodes + shape.identities + shape.endpoints) as usize;
    let want = 1 + each * scale.stream_clusters as usize;
    probe.until("view", PATIENCE, |seen| seen.keys.len() >= want).await?;
    peers.tell(&format!("churn {CHURN} {}", scale.stream_clusters))?;
    let failover = failover(&mut server, scale.streams).await?;
    results.streams = Some(failover);
    drop(peers);
    server.end()
}

/// Starts so many agents on the replica that leads, kills it, and sees where they go.
pub async fn failover(server: &mut Server, streams: usize) -> Result<Failover> {
    let victim = server.controller().await?;
    let mut order: Vec<usize> = (0..server.replicas()).collect();
    order.rotate_left(victim);
    let mut channels = Vec::with_capacity(streams);
    for n in 0..streams {
        // The first address is the one that is gone to first; of the others, each the first of half of them.
        if order.len() > 2 && n % 2 == 1 {
            order[1..].rotate_left(1);
        }
        channels.push(server.agent_channel(server.agent_leaf(&format!("node-{n}"))?, &order)?);
    }
    let began = Instant::now();
    let agents: Vec<Agent> = channels.into_iter().map(|channel| Agent::start(channel, Wants::Revisions)).collect();
    for agent in &agents {
        agent.until("view of an agent", PATIENCE, |seen| seen.revision > 0).await?;
    }
    let start = began.elapsed();
    let (rss, _) = figures::memory_mib(server.pid(victim)?)?;
    let snapshots = || agents.iter().map(|agent| agent.look(|seen| seen.snapshots)).sum::<u64>();
    let before = snapshots();
    let ended: Vec<u64> = agents.iter().map(|agent| agent.look(|seen| seen.ended)).collect();

    let killed = Instant::now();
    server.kill(victim)?;
    let mut resumed: Vec<f64> = Vec::new();
    let mut waiting: Vec<usize> = (0..agents.len()).collect();
    while !waiting.is_empty() {
        waiting.retain(|n| {
            let is_back = agents[*n].look(|seen| seen.ended > ended[*n] && seen.follows);
            if is_back {
                resumed.push(killed.elapsed().as_secs_f64());
            }
            !is_back
        });
        anyhow::ensure!(killed.elapsed() < PATIENCE, "{} agents found no other replica", waiting.len());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // All get what is written from now on.
    let newest = newest_revision(server, victim).await?;
    let mut caught_up = 0;
    for agent in &agents {
        agent.until("newest change of an agent", PATIENCE, |seen| seen.revision >= newest).await?;
        caught_up += usize::from(agent.look(|seen| seen.snapshots == 1));
    }
    Ok(Failover {
        streams,
        start_s: rounded(start.as_secs_f64()),
        replica_rss_mib: rounded(rss),
        resume_p50_s: rounded(percentile(&mut resumed, 50.0)),
        resume_p99_s: rounded(percentile(&mut resumed, 99.0)),
        resume_last_s: rounded(percentile(&mut resumed, 100.0)),
        snapshots_after: snapshots() - before,
        caught_up,
    })
}

/// Of the replicas that are left.
async fn newest_revision(server: &Server, gone: usize) -> Result<i64> {
    let mut newest = 0.0_f64;
    for replica in (0..server.replicas()).filter(|replica| *replica != gone) {
        let text = server.metrics(replica).await?;
        newest = newest.max(figures::sum_of(&text, "isthmus_view_revision", ""));
    }
    #[expect(clippy::cast_possible_truncation, reason = "revisions of one run")]
    Ok(newest as i64)
}
