//! Which backends a Service of the consuming cluster uses, and for how much of its connections. One pure function.
//!
//! Source: Cilium `pkg/clustermesh/selectbackends.go` and the chart "Global and Shared Services Reference" for `global` and
//! `affinity`; order, weights and spill-over are this mesh's own, the latter after Envoy's priority levels.
//!
//! ```text
//!  backends --(ready, permitted)--> usable --(path up, unless none is)--> pool --+--> parts by weight ----+
//!                                                                                +--> tiers, spill-over --+--> Chosen
//! ```

use crate::preference::Preference;
use crate::{BackendState, ClusterName};

mod shares;
mod tiers;

/// What selection needs to know of a backend; implemented by whatever carries one.
pub trait Candidate {
    fn cluster(&self) -> &ClusterName;
    fn state(&self) -> BackendState;
    /// Whether the path to it is believed to work. What one agent sees on its own paths masks on that agent only.
    fn reachable(&self) -> bool;
    /// Its share beside other backends of its cluster; 0 counts as 1.
    fn weight(&self) -> u16;
}

impl Candidate for crate::Backend {
    fn cluster(&self) -> &ClusterName {
        &self.cluster
    }
    fn state(&self) -> BackendState {
        self.state
    }
    fn reachable(&self) -> bool {
        true
    }
    fn weight(&self) -> u16 {
        self.weight
    }
}

/// The settings of the consuming cluster's Service; `None` where only remote clusters have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer<'a> {
    pub cluster: &'a ClusterName,
    /// `Some((global, preference))` of the local Service.
    pub local: Option<(bool, &'a Preference)>,
}

/// A backend that takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Into the backends that were given.
    pub index: usize,
    /// Its share of new connections beside the other chosen ones, from 1.
    pub weight: u16,
}

/// Backends that divide a share of the connections among themselves.
struct Part {
    members: Vec<usize>,
    /// Relative to the other parts; above 0.
    share: u64,
}

/// The backends that take new connections, in input order.
///
/// # Invariants
/// - A Service that is not global never uses a remote backend; one that exists only remotely uses all remote ones.
/// - Unreachable backends are left out while any reachable one remains: a fault on the path never empties a Service.
/// - Not-ready backends are never chosen; terminating ones only while no active one remains.
/// - Whatever clusters are preferred, something is chosen while anything could be.
pub fn select<C: Candidate>(consumer: Consumer<'_>, backends: &[C]) -> Vec<Chosen> {
    let everything = Preference::default();
    let (is_global, preference) = consumer.local.unwrap_or((true, &everything));
    let permitted = |i: &usize| is_global || backends[*i].cluster() == consumer.cluster;
    let known: Vec<usize> = (0..backends.len()).filter(permitted).collect();
    let usable = known.iter().copied().filter(|i| backends[*i].state() != BackendState::NotReady);
    let (reachable, cut_off): (Vec<usize>, Vec<usize>) = usable.partition(|i| backends[*i].reachable());
    let pool = if reachable.is_empty() { cut_off } else { reachable };
    let active: Vec<usize> = pool.iter().copied().filter(|i| backends[*i].state() == BackendState::Active).collect();
    // What is terminating serves on when nothing else does.
    let pool = if active.is_empty() { pool } else { active };
    let cluster = |i: usize| backends[i].cluster();
    let parts = if preference.weights.is_empty() {
        tiers::divide(consumer.cluster, preference, &known, pool, cluster)
    } else {
        by_weight(preference, pool, cluster)
    };
    let mut chosen = shares::weigh(&parts, |i| backends[i].weight());
    chosen.sort_unstable_by_key(|chosen| chosen.index);
    chosen
}

/// A part for each cluster with a weight; the rest only when none of those has a backend.
fn by_weight<'a>(preference: &Preference, pool: Vec<usize>, cluster: impl Fn(usize) -> &'a ClusterName) -> Vec<Part> {
    let weighted = preference.weights.iter().filter(|(_, weight)| **weight > 0).map(|(name, weight)| Part {
        members: pool.iter().copied().filter(|i| cluster(*i) == name).collect(),
        share: u64::from(*weight),
    });
    let parts: Vec<Part> = weighted.filter(|part| !part.members.is_empty()).collect();
    if parts.is_empty() { vec![Part { members: pool, share: 1 }] } else { parts }
}

#[cfg(test)]
mod tests;
