//! Clusters in order: which of them serve now, and what spills over to the next.

use std::collections::BTreeMap;

use super::Part;
use crate::ClusterName;
use crate::preference::{Affinity, Preference};

/// Shares are counted in millionths of all connections.
const ALL: u64 = 1_000_000;

#[derive(Default)]
struct Tier {
    /// Backends that the tier has, whatever their state.
    known: u64,
    /// Those of the pool.
    members: Vec<usize>,
}

/// The first tier that has backends in `pool` takes everything, but for what spills over.
pub(super) fn divide<'a>(
    own: &ClusterName,
    preference: &Preference,
    known: &[usize],
    pool: Vec<usize>,
    cluster: impl Fn(usize) -> &'a ClusterName,
) -> Vec<Part> {
    let mut tiers: BTreeMap<usize, Tier> = BTreeMap::new();
    for i in known {
        tiers.entry(rank(own, preference, cluster(*i))).or_default().known += 1;
    }
    for i in pool {
        tiers.entry(rank(own, preference, cluster(i))).or_default().members.push(i);
    }
    let tiers: Vec<Tier> = tiers.into_values().filter(|tier| !tier.members.is_empty()).collect();
    let (mut parts, mut left, last) = (Vec::new(), ALL, tiers.len().saturating_sub(1));
    for (n, tier) in tiers.into_iter().enumerate() {
        let share = if n == last { left } else { tier.share_of(left, preference.spillover) };
        left -= share;
        if share > 0 {
            parts.push(Part { members: tier.members, share });
        }
        if left == 0 {
            break;
        }
    }
    parts
}

impl Tier {
    /// Of `left`, what this tier takes when another one follows.
    fn share_of(&self, left: u64, spillover: Option<u8>) -> u64 {
        let Some(percent) = spillover else { return left };
        let healthy = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        let wanted = self.known.max(1) * u64::from(percent);
        (left.saturating_mul(healthy).saturating_mul(100) / wanted).min(left)
    }
}

/// A cluster's tier; the lowest comes first.
fn rank(own: &ClusterName, preference: &Preference, cluster: &ClusterName) -> usize {
    let Preference { affinity, failover, .. } = preference;
    let is_own = cluster == own;
    if failover.is_empty() {
        return match affinity {
            Affinity::None => 0,
            Affinity::Local => usize::from(!is_own),
            Affinity::Remote => usize::from(is_own),
        };
    }
    let named = failover.iter().position(|name| name == cluster);
    let own_is_named = failover.contains(own);
    let before = usize::from(!own_is_named && *affinity != Affinity::Remote);
    match named {
        Some(position) => before + position,
        None if is_own && *affinity == Affinity::Remote => failover.len() + 1,
        None if is_own => 0,
        None => before + failover.len(),
    }
}
