//! The store beside a real etcd: groups of three replicas of each, as processes on loopback with their data side by side on
//! the same disk, mutual TLS everywhere, every acknowledged write durable.
//!
//! ```text
//!  Plan --> one fresh Pair of groups for each workload --> rounds in alternating order --> Rows --> store.json, table
//! ```
//! Each workload is a module that owns what it does and how its figures become rows; it never looks at which of the two
//! groups it has before it. Clients are tasks of this process. Ratios are the result: of the same run, on the same cores.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

mod calls;
mod failover;
mod fanout;
mod figures;
mod fill;
mod group;
mod leases;
mod load;
mod pair;
mod restart;
mod row;
mod start;

pub use row::{Row, table};

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
pub enum Workload {
    /// Puts of 256 bytes by 1, 100 and 1,000 clients
    Put,
    /// Transactions that compare and put
    Txn,
    /// Ranges of one and of 1,000 keys, linearizable and serializable
    Range,
    /// One change to 100, 1,000 and 10,000 watchers
    Fanout,
    /// 100,000 keys on one lease
    Lease,
    /// Replicas killed and started again on 1,000,000 keys
    Restart,
    /// The leader killed under load
    Failover,
}

/// How much is done.
#[derive(Debug, Clone)]
pub struct Scale {
    pub rounds: usize,
    /// Of one round of calls.
    pub round: Duration,
    pub put_clients: Vec<usize>,
    pub watchers: Vec<usize>,
    pub watch_connections: usize,
    pub lease_keys: usize,
    pub restart_keys: usize,
    pub kills: usize,
}

impl Scale {
    /// What the figures are taken from: about eight minutes.
    pub fn full() -> Self {
        Self {
            rounds: 3,
            round: Duration::from_secs(4),
            put_clients: vec![1, 100, 1000],
            watchers: vec![100, 1_000, 10_000],
            watch_connections: 100,
            lease_keys: 100_000,
            restart_keys: 1_000_000,
            kills: 5,
        }
    }

    /// Shows in seconds that everything runs; its figures mean nothing.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            round: Duration::from_millis(100),
            put_clients: vec![1, 10],
            watchers: vec![20],
            watch_connections: 5,
            lease_keys: 200,
            restart_keys: 500,
            kills: 1,
        }
    }
}

/// What to measure, and on what.
#[derive(Debug, Clone)]
pub struct Plan {
    pub workloads: Vec<Workload>,
    pub scale: Scale,
    /// Folder for all replicas' data, on a real disk. Emptied.
    pub folder: PathBuf,
    pub apiserver: PathBuf,
    pub etcd: PathBuf,
}

#[derive(Debug, Serialize)]
pub struct Results {
    pub etcd_version: String,
    pub replicas: usize,
    pub filesystem: String,
    pub rounds: usize,
    pub seconds_per_round: f64,
    pub rows: Vec<Row>,
}

pub async fn run(plan: &Plan, etcd_version: &str) -> Result<Results> {
    let folder = &plan.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let filesystem = filesystem_of(folder)?;
    if filesystem == "tmpfs" {
        bail!("{} is on tmpfs, where fdatasync costs nothing: choose a folder on a disk", folder.display());
    }
    let mut rows = Vec::new();
    for workload in &plan.workloads {
        let done = measure(*workload, plan).await.with_context(|| format!("measure {workload}"))?;
        rows.extend(done);
    }
    std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(Results {
        etcd_version: etcd_version.to_owned(),
        replicas: group::REPLICAS,
        filesystem,
        rounds: plan.scale.rounds,
        seconds_per_round: plan.scale.round.as_secs_f64(),
        rows,
    })
}

async fn measure(workload: Workload, plan: &Plan) -> Result<Vec<Row>> {
    let mut pair = pair::Pair::start(plan, workload).await?;
    let scale = &plan.scale;
    match workload {
        Workload::Put => calls::puts(&mut pair, scale).await,
        Workload::Txn => calls::txns(&mut pair, scale).await,
        Workload::Range => calls::ranges(&mut pair, scale).await,
        Workload::Fanout => fanout::run(&mut pair, scale).await,
        Workload::Lease => leases::run(&mut pair, scale).await,
        Workload::Restart => restart::run(&mut pair, scale).await,
        Workload::Failover => failover::run(&mut pair, scale).await,
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
