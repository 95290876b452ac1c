//! Nodes found by their addresses and by their pods' prefixes: what an entry of the kernel is made from asks for one of them,
//! and there are tens of thousands.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_types::Node;

/// # Invariants
/// Holds exactly the nodes that were added and not removed.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeIndex {
    by_address: HashMap<IpAddr, Vec<Arc<Node>>>,
    by_pod_prefix: HashMap<IpNet, Vec<Arc<Node>>>,
}

impl NodeIndex {
    pub(super) fn add(&mut self, node: &Arc<Node>) {
        node.internal_ips.iter().for_each(|address| note(&mut self.by_address, *address, node));
        node.pod_cidrs.iter().for_each(|prefix| note(&mut self.by_pod_prefix, *prefix, node));
    }

    pub(super) fn remove(&mut self, node: &Node) {
        node.internal_ips.iter().for_each(|address| forget(&mut self.by_address, address, node));
        node.pod_cidrs.iter().for_each(|prefix| forget(&mut self.by_pod_prefix, prefix, node));
    }

    pub(super) fn at(&self, address: &IpAddr) -> impl Iterator<Item = &Node> {
        self.by_address.get(address).into_iter().flatten().map(|node| &**node)
    }

    pub(super) fn of_pod_prefix(&self, prefix: &IpNet) -> impl Iterator<Item = &Node> {
        self.by_pod_prefix.get(prefix).into_iter().flatten().map(|node| &**node)
    }
}

/// As a rule there is one node at a place, so there is room for one.
fn note<K: Hash + Eq>(index: &mut HashMap<K, Vec<Arc<Node>>>, at: K, node: &Arc<Node>) {
    let nodes = index.entry(at).or_insert_with(|| Vec::with_capacity(1));
    // A node may name an address twice.
    if !nodes.iter().any(|known| Arc::ptr_eq(known, node)) {
        nodes.push(Arc::clone(node));
    }
}

fn forget<K: Hash + Eq>(index: &mut HashMap<K, Vec<Arc<Node>>>, at: &K, node: &Node) {
    let Some(nodes) = index.get_mut(at) else { return };
    nodes.retain(|known| (&known.cluster, &known.name) != (&node.cluster, &node.name));
    if nodes.is_empty() {
        index.remove(at);
    }
}
