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
    /// Adds a node in the place of what it was before.
    pub(super) fn replace(&mut self, old: Option<&Node>, node: &Arc<Node>) {
        if let Some(old) = old {
            self.remove(old);
        }
        for address in &node.internal_ips {
            note(&mut self.by_address, *address, node);
        }
        for prefix in &node.pod_cidrs {
            note(&mut self.by_pod_prefix, *prefix, node);
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

#[cfg(test)]
mod tests {
    use mesh_types::{ClusterId, ClusterName, NodeName};

    use super::*;

    fn node(name: &str, address: &str) -> Arc<Node> {
        Arc::new(Node {
            cluster: ClusterName::new("east").unwrap(),
            cluster_id: ClusterId::new(2).unwrap(),
            name: NodeName(name.to_owned()),
            internal_ips: vec![address.parse().unwrap(); 2],
            pod_cidrs: vec!["10.2.1.0/24".parse().unwrap()],
            wireguard_key: None,
            wireguard_port: 0,
            vxlan_port: 0,
        })
    }

    #[test]
    fn a_node_is_found_where_it_is_now_and_nowhere_else() {
        let (here, there) = ("172.30.2.11", "172.30.2.12");
        let mut index = NodeIndex::default();
        let first = node("w1", here);
        index.replace(None, &first);
        index.replace(Some(&first), &node("w1", there));
        index.replace(None, &node("w2", there));
        let at = |index: &NodeIndex, address: &str| index.at(&address.parse().unwrap()).count();
        assert_eq!((at(&index, here), at(&index, there)), (0, 2), "named twice, found once");
        index.remove(&node("w1", there));
        let prefix = "10.2.1.0/24".parse().unwrap();
        let left: Vec<_> = index.of_pod_prefix(&prefix).map(|node| node.name.0.as_str()).collect();
        assert_eq!((left, at(&index, there)), (vec!["w2"], 1));
    }
}
