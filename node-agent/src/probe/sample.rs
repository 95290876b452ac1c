//! Which nodes are probed of a cluster of which nothing is in use: a cluster that is joined and not used yet, and one whose
//! backends were withdrawn because no path to it worked. Without them nobody could say whether packets reach it, or again do.
//!
//! Pure. Few nodes, and others on each node of this cluster, so that all agents together look at many.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::Ipv4Addr;

/// Of each such cluster: more than one, since a single node may be away for reasons of its own.
const NODES: usize = 3;

/// The nodes to probe, out of all nodes of clusters that are not in use.
pub fn sample<'a>(own: Ipv4Addr, nodes: impl IntoIterator<Item = (&'a str, Ipv4Addr)>) -> BTreeSet<Ipv4Addr> {
    let mut clusters: BTreeMap<&str, BTreeSet<(u64, Ipv4Addr)>> = BTreeMap::new();
    for (cluster, address) in nodes {
        let chosen = clusters.entry(cluster).or_default();
        chosen.insert((rank(own, address), address));
        if chosen.len() > NODES {
            chosen.pop_last();
        }
    }
    clusters.into_values().flatten().map(|(_, address)| address).collect()
}

/// By highest random weight: a node that comes or goes changes nothing about the others.
fn rank(own: Ipv4Addr, address: Ipv4Addr) -> u64 {
    // Its keys are fixed; what another release of the standard library makes of them is of no concern.
    let mut hasher = DefaultHasher::new();
    (own, address).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8) -> Vec<(&'static str, Ipv4Addr)> {
        let of = |cluster, third| (1..=count).map(move |n| (cluster, Ipv4Addr::new(172, 30, third, n)));
        of("b", 2).chain(of("c", 3)).collect()
    }

    fn own(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 1, n)
    }

    #[test]
    fn every_cluster_is_looked_at_by_a_few_nodes_and_a_small_one_by_all() {
        assert_eq!(sample(own(1), nodes(2)).len(), 4);
        let many = sample(own(1), nodes(100));
        assert_eq!(many.len(), 2 * NODES);
        assert_eq!(many.iter().filter(|address| address.octets()[2] == 2).count(), NODES);
    }

    #[test]
    fn agents_look_at_different_nodes_each_at_the_same_ones_for_as_long_as_they_are_there() {
        let by_all: BTreeSet<Ipv4Addr> = (1..=50).flat_map(|n| sample(own(n), nodes(100))).collect();
        assert!(by_all.len() > 100, "{}", by_all.len());
        let before = sample(own(1), nodes(100));
        let gone = *before.first().unwrap();
        let rest = nodes(100).into_iter().filter(|(_, address)| *address != gone);
        let after = sample(own(1), rest);
        assert_eq!(before.difference(&after).count(), 1);
    }
}
