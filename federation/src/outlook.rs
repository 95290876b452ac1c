//! What the own cluster sees of the others, and what its Services ask of the judgement: the judge's second source beside
//! the sessions. Made by the API server from its agents' reports; this crate only reads it.

use std::collections::BTreeMap;
use std::time::Instant;

use mesh_types::ClusterName;
use mesh_types::withdrawal::Periods;

/// Whether packets reach a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paths {
    /// Nobody probes it, or too few say that they do not reach it.
    #[default]
    Unknown,
    /// Some agent reaches some node of it.
    Up,
    /// Enough agents say that they reach none of its nodes.
    Down { since: Instant },
}

impl Paths {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down { .. } => "down",
        }
    }
}

/// One cluster as the own cluster's agents see it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub paths: Paths,
    /// Unix nanoseconds of the newest change of `paths`.
    pub since_unix_nanos: u64,
    /// Agents that reach none of its nodes, in order.
    pub unreached_by: Vec<String>,
}

/// Everything at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlook {
    pub clusters: BTreeMap<ClusterName, Sight>,
    /// Why the agents' reports say nothing about other clusters, where they do not: the own nodes seem to have lost each
    /// other.
    pub own_side: Option<String>,
    /// Withdrawal periods that Services of the own cluster ask for.
    pub periods: Periods,
    /// After how much silence they show a cluster as stale.
    pub stale_periods: Periods,
}

impl Outlook {
    pub fn paths(&self, cluster: &ClusterName) -> Paths {
        self.clusters.get(cluster).map(|sight| sight.paths).unwrap_or_default()
    }
}
