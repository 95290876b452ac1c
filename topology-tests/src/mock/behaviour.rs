//! How a mock cluster troubles those who follow it.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{OnExit, TaskSet};

use super::Cluster;

/// A peer whose configuration cannot be read has its connection ended: once in a while, or nothing else would be seen.
const BAD_CONFIG_EVERY: u32 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Behaviour {
    /// As it should be
    Calm,
    /// So many keys a second that it may not write or that nobody can read, its configuration among them
    Garbage { per_second: u32 },
    /// So many changes a second
    Flood { per_second: u32 },
    /// It answers nothing more, in the middle of its streams, and keeps its connections open
    Stall,
    /// With every change, of which there is one a second, all watches tell the whole past again
    Replay,
}

impl Behaviour {
    /// Ends what the cluster did before, and begins.
    pub(super) fn begin(self, cluster: &Arc<Cluster>, tasks: &TaskSet) {
        if let Some(running) = cluster.mischief.lock().take() {
            running.abort();
            let (key, value) = cluster.facts.config();
            cluster.store.write([(key, value)]);
        }
        cluster.store.set_stalled(self == Self::Stall);
        cluster.store.set_replays(self == Self::Replay);
        let per_second = match self {
            Self::Calm | Self::Stall => return,
            Self::Replay => 1,
            Self::Garbage { per_second } | Self::Flood { per_second } => per_second.max(1),
        };
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
        let troubled = Arc::clone(cluster);
        let name = format!("{self:?} of {}", cluster.facts.name);
        *cluster.mischief.lock() = Some(tasks.spawn(name, OnExit::Log, async move {
            for n in 0.. {
                ticks.tick().await;
                match self {
                    Self::Garbage { .. } if n % BAD_CONFIG_EVERY == BAD_CONFIG_EVERY - 1 => {
                        let (key, good) = troubled.facts.config();
                        troubled.store.write([(key.clone(), b"{\"id\":".to_vec())]);
                        troubled.store.write([(key, good)]);
                    }
                    Self::Garbage { .. } => drop(troubled.export(vec![troubled.facts.nonsense(n)])),
                    _ => troubled.change_one(),
                }
            }
        }));
    }
}
