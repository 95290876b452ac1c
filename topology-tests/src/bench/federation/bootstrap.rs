//! All clusters joined at once; then, with them all there: a burst, churn, and a restart.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{EventType, WatchOptions};
use mesh_runtime::clock;

use super::agent::{Agent, Wants};
use super::figures;
use super::peers::Peers;
use super::server::{Layout, Server, Written};
use super::{Plan, Results};
use crate::bench::stats::{median, percentile, rounded};
use crate::mock::Shape;

/// However slow the machine is.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);
/// Bursts, each of another cluster.
const BURSTS: u32 = 5;

pub(super) async fn measure(plan: &Plan, results: &mut Results) -> Result<()> {
    let scale = &plan.scale;
    let (mut server, mut peers) = begin(plan, "bootstrap", 1, scale.clusters, scale.shape)?;
    let agent = follow(&server, "bench-0").await?;
    results.bootstrap_s = Some(join_all(plan, &server, &peers, &agent).await?);
    let (now, peak) = figures::memory_mib(server.pid(0)?)?;
    results.apiserver_rss_mib = Some(rounded(now));
    results.apiserver_peak_rss_mib = Some(rounded(peak));

    let mut bursts = Vec::new();
    for cluster in 1..=BURSTS.min(scale.clusters) {
        bursts.push(burst(&server, &mut peers, cluster, scale.burst_keys).await?);
    }
    results.burst_1000_keys_s = Some(rounded(median(&mut bursts)));
    // What the bursts brought reaches the agent as well.
    let want = expected(plan) + bursts.len() * scale.burst_keys as usize;
    agent.until("endpoint of the bursts", PATIENCE, |seen| seen.keys.len() >= want).await?;

    let before = connections(&server, &agent).await?;
    let mut ages = churn(&mut peers, &agent, scale.churn_per_second, scale.clusters, scale.churn).await?;
    results.reconnections = Some(connections(&server, &agent).await? - before);
    results.changes_seen = Some(ages.len());
    results.change_p50_ms = Some(rounded(median(&mut ages)));
    results.change_p99_ms = Some(rounded(percentile(&mut ages, 99.0)));

    restart(plan, &mut server, want, results).await?;
    drop(peers);
    drop(agent);
    server.end()
}

/// The same joining, where every write of the mirror has to be on the disks of a majority of replicas.
pub(super) async fn measure_replicas(plan: &Plan, results: &mut Results) -> Result<()> {
    let scale = &plan.scale;
    let (server, peers) = begin(plan, "replicas", scale.replicas, scale.clusters, scale.shape)?;
    let agent = follow(&server, "bench-1").await?;
    results.bootstrap_three_replicas_s = Some(join_all(plan, &server, &peers, &agent).await?);
    drop(peers);
    server.end()
}

/// An API server that has no peers yet, and the peers.
pub(super) fn begin(plan: &Plan, name: &str, replicas: usize, clusters: u32, shape: Shape) -> Result<(Server, Peers)> {
    let layout = Layout::new(&plan.folder.join(name), &plan.apiserver, replicas)?;
    let server = Server::start(layout)?;
    let peers = Peers::start(&plan.mock, &plan.folder, &server, clusters, shape)?;
    Ok((server, peers))
}

/// An agent that has the view as it is now.
pub async fn follow(server: &Server, node: &str) -> Result<Agent> {
    let all: Vec<usize> = (0..server.replicas()).collect();
    let agent = Agent::start(server.agent_channel(server.agent_leaf(node)?, &all)?, Wants::Objects);
    agent.until("view", PATIENCE, |seen| seen.revision > 0).await?;
    Ok(agent)
}

/// All that an agent is told of: each cluster and what it says, and the own cluster.
fn expected(plan: &Plan) -> usize {
    let shape = plan.scale.shape;
    let each = 1 + shape.nodes + shape.identities + shape.endpoints;
    1 + (plan.scale.clusters * each) as usize
}

/// Seconds from the joining until the agent has everything; then waits until every peer is live.
async fn join_all(plan: &Plan, server: &Server, peers: &Peers, agent: &Agent) -> Result<f64> {
    let records = peers.records()?;
    let began = Instant::now();
    server.join(&records).await?;
    let want = expected(plan);
    agent.until("view of all clusters", PATIENCE, |seen| seen.keys.len() >= want).await?;
    let took = began.elapsed().as_secs_f64();
    let controller = server.controller().await?;
    server.wait_until_live(controller, records.len(), PATIENCE).await?;
    Ok(rounded(took))
}

/// Seconds from a cluster's writing of so many keys until all are in the API server's store.
async fn burst(server: &Server, peers: &mut Peers, cluster: u32, keys: u32) -> Result<f64> {
    let mut admin = server.admin(0).await?;
    let prefix = format!("cilium/cache/ip/v1/mock-{cluster}/");
    let mut events = admin.watch(prefix, Some(WatchOptions::new().with_prefix())).await.context("watch the mirror")?;
    let first = events.message().await.context("the watch's confirmation")?;
    anyhow::ensure!(first.is_some_and(|answer| answer.created()), "the watch was not confirmed");
    let written = peers.tell(&format!("burst {cluster} {keys}"))?;
    let mut missing = keys;
    while missing > 0 {
        let next = tokio::time::timeout(PATIENCE, events.message()).await.context("the burst in the mirror")?;
        let answer = next.context("follow the mirror")?.context("the watch ended")?;
        let puts = answer.events().iter().filter(|event| event.event_type() == EventType::Put).count();
        missing = missing.saturating_sub(u32::try_from(puts)?);
    }
    Ok(seconds_since(written))
}

#[expect(clippy::cast_precision_loss, reason = "durations of minutes, in nanoseconds")]
fn seconds_since(unix_nanos: u64) -> f64 {
    clock::unix_nanos().saturating_sub(unix_nanos) as f64 / 1e9
}

/// Connections to peers, made since the server's start, and streams of the agent that ended.
async fn connections(server: &Server, agent: &Agent) -> Result<u64> {
    let controller = server.controller().await?;
    let made = figures::sum_of(&server.metrics(controller).await?, "isthmus_peer_connections", "");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let made = made as u64;
    Ok(made + agent.look(|seen| seen.ended))
}

/// Changes at a rate for a time; how old each was at the agent, in milliseconds.
pub(super) async fn churn(
    peers: &mut Peers,
    agent: &Agent,
    per_second: u32,
    among: u32,
    lasting: Duration,
) -> Result<Vec<f64>> {
    peers.tell(&format!("churn {per_second} {among}"))?;
    // The first ones find caches cold, whatever is measured.
    tokio::time::sleep(lasting / 10).await;
    drop(agent.take_ages());
    tokio::time::sleep(lasting).await;
    let ages: Vec<f64> = agent.take_ages().into_values().flatten().collect();
    peers.tell("churn 0 1")?;
    anyhow::ensure!(!ages.is_empty(), "no change reached the agent");
    Ok(ages)
}

/// Killed and started again on what it had: until all peers are followed again and a new agent has everything.
async fn restart(plan: &Plan, server: &mut Server, want: usize, results: &mut Results) -> Result<()> {
    let before = server.written("cilium/cache/").await?;
    let began = Instant::now();
    server.kill(0)?;
    server.spawn(0)?;
    server.wait_until_ready()?;
    let agent = follow(server, "bench-2").await?;
    agent.until("view after the restart", PATIENCE, |seen| seen.keys.len() >= want).await?;
    server.wait_until_live(0, plan.scale.clusters as usize, PATIENCE).await?;
    results.warm_restart_s = Some(rounded(began.elapsed().as_secs_f64()));
    results.apiserver_rss_after_restart_mib = Some(rounded(figures::memory_mib(server.pid(0)?)?.0));
    let after = server.written("cilium/cache/").await?;
    // The same value under a newer revision: written although nothing was new.
    let is_rewritten = |(key, now): &(&Vec<u8>, &Written)| {
        before.get(*key).is_some_and(|old| old.value == now.value && old.revision != now.revision)
    };
    results.warm_restart_keys_rewritten = Some(after.iter().filter(is_rewritten).count());
    Ok(())
}
