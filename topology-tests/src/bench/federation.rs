//! One real mesh-apiserver with as many peers as a mesh may have: how long until it knows them, what a change costs, how fast
//! it reaches an agent, what it takes in memory, and who is harmed by a peer that misbehaves.
//!
//! ```text
//!  mesh-mock (a process, N clusters) --etcd API, mTLS--> mesh-apiserver (one process, or three) --agent API--> agents
//!                                                                            simulated ones are tasks of this process
//! ```
//! Each part starts its own processes on loopback with fresh data. A change's age is read from the change itself: a mock
//! cluster names a replaced pod by the time at which it wrote it, and both clocks are this machine's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::mock::Shape;

mod agent;
mod agents_memory;
mod backends;
mod bootstrap;
mod clusters;
mod figures;
mod hostile;
mod peers;
mod plot;
mod server;
mod streams;
mod verdict;

pub use agent::{Agent, Seen, Wants};
pub use bootstrap::follow;
pub use hostile::{Harm, Trouble, harm};
pub use peers::Peers;
pub use server::{Layout, Server, Written};
pub use streams::{Failover, failover};
pub use verdict::{Row, table};

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
pub enum Part {
    /// All clusters joined at once, a burst, churn, and a restart
    Bootstrap,
    /// All clusters joined at once, with three replicas
    Replicas,
    /// The same churn among few and many clusters
    Clusters,
    /// One backend of 5,000 comes and goes
    Backends,
    /// A real node-agent's memory with all endpoints in its maps (root)
    Agent,
    /// A peer that sends garbage, floods, stalls, or tells its past again
    Hostile,
    /// 1,000 agents on one of three replicas, which is killed
    Streams,
}

/// How much is done.
#[derive(Debug, Clone)]
pub struct Scale {
    pub clusters: u32,
    pub shape: Shape,
    pub burst_keys: u32,
    pub churn_per_second: u32,
    /// Of churn in each part.
    pub churn: Duration,
    /// Numbers of clusters that `clusters` compares.
    pub steps: Vec<u32>,
    pub backends: u32,
    pub backend_changes: u32,
    pub hostile_clusters: u32,
    pub hostile_per_second: u32,
    pub hostile: Duration,
    pub streams: usize,
    pub stream_clusters: u32,
    pub replicas: usize,
}

impl Scale {
    /// What the figures are taken from.
    pub fn full() -> Self {
        Self {
            clusters: 250,
            shape: Shape { nodes: 100, identities: 100, endpoints: 1_000, backends: 0, cached: false },
            burst_keys: 1_000,
            churn_per_second: 325,
            churn: Duration::from_secs(30),
            steps: vec![1, 10, 100, 250],
            backends: 5_000,
            backend_changes: 50,
            hostile_clusters: 20,
            hostile_per_second: 1_000,
            hostile: Duration::from_mins(1),
            streams: 1_000,
            stream_clusters: 10,
            replicas: 3,
        }
    }

    /// Shows in a minute that everything runs; its figures mean nothing.
    pub fn quick() -> Self {
        Self {
            clusters: 4,
            shape: Shape { nodes: 4, identities: 4, endpoints: 20, backends: 0, cached: false },
            burst_keys: 50,
            churn_per_second: 50,
            churn: Duration::from_secs(2),
            steps: vec![1, 4],
            backends: 200,
            backend_changes: 5,
            hostile_clusters: 3,
            hostile_per_second: 200,
            hostile: Duration::from_secs(2),
            streams: 12,
            stream_clusters: 2,
            replicas: 3,
        }
    }

    /// The same with fewer clusters.
    #[must_use]
    pub fn with_clusters(mut self, clusters: u32) -> Self {
        self.clusters = clusters;
        self.steps.retain(|step| *step < clusters);
        self.steps.push(clusters);
        self
    }
}

/// What to measure, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    pub parts: Vec<Part>,
    pub scale: Scale,
    /// Folder for all processes' files. Emptied.
    pub folder: PathBuf,
    pub apiserver: PathBuf,
    pub mock: PathBuf,
    pub node_agent: PathBuf,
    /// This program has network and mount namespaces of its own: without them no agent writes into the kernel.
    pub is_in_own_namespace: bool,
}

/// What was measured. A figure of a part that did not run is absent.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    pub clusters: u32,
    pub objects: usize,
    /// Of the API server in the parts that say nothing else.
    pub replicas: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_s: Option<f64>,
    /// The same with three replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_three_replicas_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_restart_s: Option<f64>,
    /// Mirrored keys that the restart wrote again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_restart_keys_rewritten: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apiserver_rss_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apiserver_peak_rss_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apiserver_rss_after_restart_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_1000_keys_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes_seen: Option<usize>,
    /// Connections to peers and streams of agents that ended under churn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnections: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub change_p99_ms_by_clusters: BTreeMap<u32, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub change_p50_ms_by_clusters: BTreeMap<u32, f64>,
    /// CPU of the API server for one change, what it takes when nothing changes left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_us_per_change_by_clusters: BTreeMap<u32, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_backend_change: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_change_p50_ms: Option<f64>,
    /// Own memory of a node-agent, maps of the kernel left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_rss_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_peak_rss_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_maps_mib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_addresses: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_ready_s: Option<f64>,
    /// By behaviour: the other clusters' p99 beside that of the calm before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hostile: BTreeMap<String, Harm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Failover>,
    /// Parts that could not be measured, and why: what the others gave is kept.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, String>,
    pub rows: Vec<Row>,
}

pub async fn run(plan: &Plan) -> Result<Results> {
    std::fs::create_dir_all(&plan.folder).with_context(|| format!("create {}", plan.folder.display()))?;
    let scale = &plan.scale;
    let shape = scale.shape;
    let mut results = Results { clusters: scale.clusters, replicas: 1, ..Results::default() };
    results.objects = scale.clusters as usize * (shape.nodes + shape.identities + shape.endpoints) as usize;
    for part in &plan.parts {
        eprintln!("federation: {part}");
        let done = match part {
            Part::Bootstrap => bootstrap::measure(plan, &mut results).await,
            Part::Replicas => bootstrap::measure_replicas(plan, &mut results).await,
            Part::Clusters => clusters::measure(plan, &mut results).await,
            Part::Backends => backends::measure(plan, &mut results).await,
            Part::Agent => agents_memory::measure(plan, &mut results).await,
            Part::Hostile => hostile::measure(plan, &mut results).await,
            Part::Streams => streams::measure(plan, &mut results).await,
        };
        if let Err(error) = done {
            results.failed.insert(part.to_string(), format!("{error:#}"));
        }
    }
    // What failed left its logs there.
    if results.failed.is_empty() {
        std::fs::remove_dir_all(&plan.folder).with_context(|| format!("remove {}", plan.folder.display()))?;
    }
    results.rows = verdict::rows(&results);
    Ok(results)
}

pub use plot::plot;
