//! One real mesh-apiserver with mock peers: who is harmed by one that misbehaves, and where agents go when their replica is
//! killed. The same with more of everything: `cargo xtask bench federation`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use strum::IntoEnumIterator as _;
use topology_tests::bench::federation::{Layout, Peers, Server, Trouble, failover, follow, harm};
use topology_tests::binaries::Binaries;
use topology_tests::mock::Shape;

const SHAPE: Shape = Shape { nodes: 4, identities: 4, endpoints: 40, backends: 3, cached: false };
const PATIENCE: Duration = Duration::from_mins(1);
/// Below this, twice as much is nobody's harm: on a machine that runs other tests, the scheduler decides.
const UNNOTICED_MS: f64 = 300.0;

fn server(folder: &std::path::Path, replicas: usize) -> Result<Server> {
    let program = Binaries::beside_this_one()?.find("mesh-apiserver")?;
    Server::start(Layout::new(&folder.join("server"), &program, replicas)?)
}

fn peers(folder: &std::path::Path, server: &Server, clusters: u32, shape: Shape) -> Result<Peers> {
    Peers::start(std::path::Path::new(env!("CARGO_BIN_EXE_mesh-mock")), folder, server, clusters, shape)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_misbehaves_delays_no_other_and_is_followed_again_when_it_behaves() -> Result<()> {
    const CLUSTERS: u32 = 4;
    const PER_SECOND: u32 = 40;
    let folder = tempfile::tempdir().context("a folder for the test")?;
    let server = server(folder.path(), 1)?;
    let mut peers = peers(folder.path(), &server, CLUSTERS, SHAPE)?;
    let agent = follow(&server, "probe").await?;
    server.join(&peers.records()?).await?;
    server.wait_until_live(0, CLUSTERS as usize, PATIENCE).await?;
    peers.tell(&format!("churn {PER_SECOND} {}", CLUSTERS - 1))?;
    for trouble in Trouble::iter() {
        let command = trouble.command(CLUSTERS, 300);
        let done = harm(&mut peers, &agent, &command, CLUSTERS, PER_SECOND, Duration::from_secs(2)).await?;
        ensure!(done.seen * 10 >= done.made * 8, "{trouble}: changes of the others are missing: {done:?}");
        ensure!(done.ratio <= 2.0 || done.p99_ms <= UNNOTICED_MS, "{trouble}: the others wait: {done:?}");
        server.wait_until_live(0, CLUSTERS as usize, PATIENCE).await?;
    }
    let mirrored = server.written(&format!("cilium/cache/ip/v1/mock-{CLUSTERS}/")).await?;
    ensure!(mirrored.len() == SHAPE.endpoints as usize, "{} addresses, of which some are nonsense", mirrored.len());
    ensure!(agent.look(|seen| (seen.ended, seen.snapshots)) == (0, 1), "the agent's own stream was cut");
    drop(peers);
    server.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_a_killed_replica_go_on_elsewhere_within_five_seconds_and_get_no_snapshot() -> Result<()> {
    const AGENTS: usize = 24;
    let folder = tempfile::tempdir().context("a folder for the test")?;
    let mut server = server(folder.path(), 3)?;
    let mut peers = peers(folder.path(), &server, 2, SHAPE)?;
    let probe = follow(&server, "probe").await?;
    server.join(&peers.records()?).await?;
    let whole = 1 + 2 * (1 + 4 + 4 + 40 + 1 + 3);
    probe.until("view of both clusters", PATIENCE, |seen| seen.keys.len() >= whole).await?;
    peers.tell("churn 50 2")?;
    let done = failover(&mut server, AGENTS).await?;
    ensure!(done.resume_last_s <= 5.0, "{done:?}");
    ensure!((done.snapshots_after, done.caught_up) == (0, AGENTS), "{done:?}");
    drop(peers);
    server.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_writes_no_mirrored_key_again_and_both_layouts_are_mirrored_alike() -> Result<()> {
    for cached in [false, true] {
        let folder = tempfile::tempdir().context("a folder for the test")?;
        let mut server = server(folder.path(), 1)?;
        let peers = peers(folder.path(), &server, 2, Shape { cached, ..SHAPE })?;
        server.join(&peers.records()?).await?;
        server.wait_until_live(0, 2, PATIENCE).await?;
        let before = server.written("cilium/cache/").await?;
        ensure!(before.len() == 2 * (4 + 4 + 40 + 1), "cached {cached}: {} keys", before.len());
        server.kill(0)?;
        server.spawn(0)?;
        server.wait_until_ready()?;
        server.wait_until_live(0, 2, PATIENCE).await?;
        ensure!(server.written("cilium/cache/").await? == before, "cached {cached}: something was written again");
        drop(peers);
        server.end()?;
    }
    Ok(())
}

#[test]
fn every_part_of_the_benchmark_runs() -> Result<()> {
    let out = tempfile::tempdir().context("a folder for the results")?;
    let bench = std::path::Path::new(env!("CARGO_BIN_EXE_lab-bench"));
    let mut command = std::process::Command::new(bench);
    let run = command.arg("--out").arg(out.path()).args(["federation", "--quick"]).output().context("run it")?;
    let told = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "lab-bench ended with {}:\n{told}", run.status);
    let text = std::fs::read_to_string(out.path().join("federation.json")).context("the results")?;
    let results: serde_json::Value = serde_json::from_str(&text).context("results in JSON")?;
    let mut figures = vec![
        "bootstrap_s",
        "bootstrap_three_replicas_s",
        "warm_restart_s",
        "apiserver_rss_mib",
        "burst_1000_keys_s",
        "change_p50_ms",
        "change_p99_ms",
        "bytes_per_backend_change",
    ];
    if told.contains("agent skipped:") {
        println!("skipped: agent_rss_mib: {told}");
    } else {
        figures.push("agent_rss_mib");
    }
    for figure in figures {
        ensure!(results[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} is missing in {text}");
    }
    ensure!(results["warm_restart_keys_rewritten"] == 0, "{text}");
    ensure!(results["change_p99_ms_by_clusters"].as_object().is_some_and(|by| by.len() == 2), "{text}");
    ensure!(results["hostile"].as_object().is_some_and(|by| by.len() == 4), "{text}");
    ensure!(results["streams"]["snapshots_after"] == 0, "{text}");
    ensure!(out.path().join("federation.svg").is_file(), "no picture");
    Ok(())
}
