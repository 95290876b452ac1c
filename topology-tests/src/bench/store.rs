//! Durable puts beside real etcd: the same client, the same TLS, the same disk, rounds alternating in one run.
//!
//! Each server is one replica and makes every acknowledged put durable. The clients are tasks of this process, each with
//! one put outstanding, over one HTTP/2 connection per ten clients. Values are 256 random bytes, keys repeat within 10,000.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::RngCore;
use serde::Serialize;

mod servers;

pub use servers::{Server, Servers};

use super::stats::{median, percentile, rounded};

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub workload: String,
    pub clients: usize,
    /// Median over the rounds, puts per second.
    pub isthmus: f64,
    pub etcd: f64,
    /// isthmus / etcd.
    pub ratio: f64,
    pub isthmus_p50_ms: f64,
    pub isthmus_p99_ms: f64,
    pub etcd_p50_ms: f64,
    pub etcd_p99_ms: f64,
    /// fdatasync calls per put, over all rounds: how far commits are grouped.
    pub isthmus_fdatasync_per_put: f64,
    pub etcd_fdatasync_per_put: f64,
    pub isthmus_fdatasync_calls: u64,
    pub etcd_fdatasync_calls: u64,
}

#[derive(Debug, Serialize)]
pub struct Results {
    pub etcd_version: String,
    pub filesystem: String,
    pub rounds: usize,
    pub seconds_per_round: u64,
    pub rows: Vec<Row>,
}

/// How long and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: u64,
    pub clients: Vec<usize>,
    /// Folder for both servers' data: on a real disk.
    pub folder: PathBuf,
    pub apiserver: PathBuf,
}

#[derive(Default)]
struct Round {
    puts: u64,
    latencies_ms: Vec<f64>,
    syncs: u64,
    seconds: f64,
}

pub async fn run(plan: &Plan, peer: &etcd_peer::EtcdPeer) -> Result<Results> {
    std::fs::create_dir_all(&plan.folder).with_context(|| format!("create {}", plan.folder.display()))?;
    let filesystem = filesystem_of(&plan.folder)?;
    if filesystem == "tmpfs" {
        bail!("{} is on tmpfs, where fdatasync costs nothing: choose a folder on a disk", plan.folder.display());
    }
    let servers = Servers::start(plan, peer).await?;
    let mut rows = Vec::new();
    for &clients in &plan.clients {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..plan.rounds {
            eprintln!("put, {clients} clients, round {} of {}", round + 1, plan.rounds);
            // The order alternates, so that neither always runs on the warmer machine.
            if round % 2 == 0 {
                ours.push(measure(&servers.isthmus, clients, plan.seconds).await?);
                theirs.push(measure(&servers.etcd, clients, plan.seconds).await?);
            } else {
                theirs.push(measure(&servers.etcd, clients, plan.seconds).await?);
                ours.push(measure(&servers.isthmus, clients, plan.seconds).await?);
            }
        }
        rows.push(row(clients, ours, theirs));
    }
    servers.stop()?;
    Ok(Results {
        etcd_version: peer.version.clone(),
        filesystem,
        rounds: plan.rounds,
        seconds_per_round: plan.seconds,
        rows,
    })
}

async fn measure(server: &Server, clients: usize, seconds: u64) -> Result<Round> {
    let syncs_before = server.fdatasync_calls().await?;
    let puts = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for _ in 0..clients.div_ceil(10) {
        connections.push(server.connect().await?);
    }
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..clients {
        let mut client = connections[n % connections.len()].kv_client();
        let puts = Arc::clone(&puts);
        tasks.spawn(async move {
            let mut value = [0_u8; 256];
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let (key, before) = {
                    let mut rng = rand::rng();
                    rng.fill_bytes(&mut value);
                    (format!("bench/{:05}", rng.next_u32() % 10_000), Instant::now())
                };
                client.put(key, &value[..], None).await?;
                latencies.push(before.elapsed().as_secs_f64() * 1e3);
                puts.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, etcd_client::Error>(latencies)
        });
    }
    let mut round = Round::default();
    while let Some(done) = tasks.join_next().await {
        let latencies = done.context("a client task ended")?.with_context(|| format!("put to {}", server.name))?;
        round.latencies_ms.extend(latencies);
    }
    round.seconds = started.elapsed().as_secs_f64();
    round.puts = puts.load(Ordering::Relaxed);
    round.syncs = server.fdatasync_calls().await?.saturating_sub(syncs_before);
    Ok(round)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
fn row(clients: usize, ours: Vec<Round>, theirs: Vec<Round>) -> Row {
    let rate = |rounds: &[Round]| {
        let mut rates: Vec<f64> = rounds.iter().map(|r| r.puts as f64 / r.seconds).collect();
        median(&mut rates)
    };
    let syncs = |rounds: &[Round]| rounds.iter().map(|r| r.syncs).sum::<u64>();
    let puts = |rounds: &[Round]| rounds.iter().map(|r| r.puts).sum::<u64>().max(1) as f64;
    let (isthmus, etcd) = (rate(&ours), rate(&theirs));
    let (our_syncs, their_syncs) = (syncs(&ours), syncs(&theirs));
    let (our_puts, their_puts) = (puts(&ours), puts(&theirs));
    let mut our_ms: Vec<f64> = ours.into_iter().flat_map(|r| r.latencies_ms).collect();
    let mut their_ms: Vec<f64> = theirs.into_iter().flat_map(|r| r.latencies_ms).collect();
    Row {
        workload: "put-256B".to_owned(),
        clients,
        isthmus: rounded(isthmus),
        etcd: rounded(etcd),
        ratio: rounded(isthmus / etcd),
        isthmus_p50_ms: rounded(percentile(&mut our_ms, 50.0)),
        isthmus_p99_ms: rounded(percentile(&mut our_ms, 99.0)),
        etcd_p50_ms: rounded(percentile(&mut their_ms, 50.0)),
        etcd_p99_ms: rounded(percentile(&mut their_ms, 99.0)),
        isthmus_fdatasync_per_put: rounded(our_syncs as f64 / our_puts),
        etcd_fdatasync_per_put: rounded(their_syncs as f64 / their_puts),
        isthmus_fdatasync_calls: our_syncs,
        etcd_fdatasync_calls: their_syncs,
    }
}

/// The filesystem type that holds `path`, from the longest mount point above it.
fn filesystem_of(path: &Path) -> Result<String> {
    let path = path.canonicalize().with_context(|| format!("resolve {}", path.display()))?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
            path.starts_with(point).then(|| (point.len(), kind.to_owned()))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
        .context("no mount point holds the folder")
}
