//! Nodes found by their addresses and by their pods' prefixes: what an entry of the kernel is made from asks for one of them,
//! and there are tens of thousands.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::{ClusterName, Node, NodeName};

/// Names a node.
pub(super) type NodeKey = (ClusterName, NodeName);

/// # Invariants
/// Holds exactly the nodes that were added and not removed, each with what it had when it was added.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeIndex {
    by_address: HashMap<IpAddr, BTreeSet<NodeKey>>,
    by_pod_prefix: HashMap<IpNet, BTreeSet<NodeKey>>,
}

impl NodeIndex {
    pub(super) fn add(&mut self, node: &Node) {
        for address in &node.internal_ips {
            self.by_address.entry(*address).or_default().insert(key(node));
        }
        for prefix in &node.pod_cidrs {
            self.by_pod_prefix.entry(*prefix).or_default().insert(key(node));
        }
    }

    pub(super) fn remove(&mut self, node: &Node) {
        for address in &node.internal_ips {
            forget(&mut self.by_address, address, node);
        }
        for prefix in &node.pod_cidrs {
            forget(&mut self.by_pod_prefix, prefix, node);
        }
    }

    pub(super) fn at(&self, address: &IpAddr) -> impl Iterator<Item = &NodeKey> {
        self.by_address.get(address).into_iter().flatten()
    }

    pub(super) fn of_pod_prefix(&self, prefix: &IpNet) -> impl Iterator<Item = &NodeKey> {
        self.by_pod_prefix.get(prefix).into_iter().flatten()
    }
}

fn key(node: &Node) -> NodeKey {
    (node.cluster.clone(), node.name.clone())
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<NodeKey>>, at: &K, node: &Node) {
    let Some(keys) = index.get_mut(at) else { return };
    keys.remove(&key(node));
    if keys.is_empty() {
        index.remove(at);
    }
}
