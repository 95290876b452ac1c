//! Clusters that are not there: the contract of many clusters, served by one process, so that one real mesh-apiserver can be
//! measured, and troubled, with as many peers as a mesh may have.
//!
//! ```text
//!  Facts (encoders of federation::contract) --> MockStore (mesh-store-mvcc, in memory) --> the project's etcd services
//!       ^                                                                                   over mutual TLS, one port each
//!  churn, bursts, Behaviour <-- control: one command a line
//! ```
//! Each cluster has a CA, certificates and a store of its own, and is joined by the record that it gives of itself. Owns what
//! such a cluster says and how it misbehaves; must never decide what is measured.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use certs::TrustBundle;
use federation::PeerRecord;
use mesh_runtime::{OnExit, Shutdown, TaskSet};
use mesh_types::ClusterName;
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::task::AbortHandle;

mod access;
mod behaviour;
mod cluster;
pub mod control;
mod facts;
mod store;
mod watch;

pub use behaviour::Behaviour;
pub use cluster::Cluster;
pub use facts::{Facts, Shape};
pub use store::MockStore;

/// The cluster that may read all the mock ones: its name and its CA.
#[derive(Debug, Clone)]
pub struct Reader {
    pub name: ClusterName,
    pub bundle: TrustBundle,
}

impl Reader {
    /// Reads the CA from a PEM file, as a mesh-apiserver leaves it in its state folder.
    pub fn load(name: &str, ca: &Path) -> Result<Self> {
        let pem = std::fs::read_to_string(ca).with_context(|| format!("read the reader's CA {}", ca.display()))?;
        let bundle = TrustBundle::from_pem(&pem).with_context(|| format!("the reader's CA {}", ca.display()))?;
        Ok(Self { name: ClusterName::new(name).with_context(|| format!("the reader's name {name:?}"))?, bundle })
    }
}

/// All mock clusters of this process. They end with it.
pub struct Mock {
    clusters: Vec<Arc<Cluster>>,
    tasks: TaskSet,
    churn: Mutex<Option<AbortHandle>>,
}

impl Mock {
    /// Clusters `1..=count`, each written out and served.
    pub async fn start(count: u32, shape: Shape, reader: &Reader) -> Result<Self> {
        let tasks = TaskSet::new(Shutdown::new());
        let mut clusters = Vec::new();
        for id in 1..=count {
            let cluster = Cluster::start(id, shape, reader, &tasks).await;
            clusters.push(Arc::new(cluster.with_context(|| format!("start mock cluster {id}"))?));
        }
        Ok(Self { clusters, tasks, churn: Mutex::new(None) })
    }

    /// What an API server stores of each to be joined with it.
    pub fn records(&self) -> Vec<PeerRecord> {
        self.clusters.iter().map(|cluster| cluster.record()).collect()
    }

    /// Cluster `id`, counted from 1.
    pub fn cluster(&self, id: u32) -> Result<&Arc<Cluster>> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let found = index.and_then(|index| self.clusters.get(index));
        found.with_context(|| format!("there is no mock cluster {id}: they are 1 to {}", self.clusters.len()))
    }

    /// From now on so many changes a second, evenly in time, each to an endpoint of a cluster drawn from the first `among`;
    /// 0 ends it.
    pub fn churn(&self, per_second: u32, among: u32) -> Result<()> {
        if let Some(running) = self.churn.lock().take() {
            running.abort();
        }
        if per_second == 0 {
            return Ok(());
        }
        self.cluster(among)?;
        let clusters: Vec<_> = self.clusters.iter().take(among as usize).cloned().collect();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
        let stop = self.tasks.shutdown().clone();
        *self.churn.lock() = Some(self.tasks.spawn("churn", OnExit::Log, async move {
            while stop.unless_requested(ticks.tick()).await.is_some() {
                let drawn = rand::rng().random_range(0..clusters.len());
                clusters[drawn].change_one();
            }
        }));
        Ok(())
    }

    pub fn behave(&self, id: u32, behaviour: Behaviour) -> Result<()> {
        behaviour.begin(self.cluster(id)?, &self.tasks);
        Ok(())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.tasks.shutdown().trigger(mesh_runtime::Cause::Requested("the mock ends".to_owned()));
    }
}
