//! `NODES`: who may be the outer source of a packet from the mesh.

use std::net::IpAddr;

use agent_ebpf_common::Node;

use super::Facts;

/// The entry of an underlay address; `None` for the own cluster's nodes and for strangers.
pub fn entry(facts: Facts<'_>, address: IpAddr) -> Option<Node> {
    let owners = || facts.view.nodes_at(&address);
    if owners().any(|n| facts.view.cluster(&n.cluster).is_some_and(|c| c.is_local)) {
        return None;
    }
    let clusters = owners().filter_map(|n| facts.peer(&n.cluster)).filter(|c| facts.agrees(c));
    clusters.map(|c| c.id).min().map(|id| Node { cluster: id.get(), flags: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixture::{Mesh, addr};

    #[test]
    fn only_peers_nodes_may_send() {
        let mesh = Mesh::two_clusters();
        assert_eq!(entry(mesh.facts(), addr("172.30.2.11")).unwrap().cluster, 2);
        assert_eq!(entry(mesh.facts(), addr("172.30.1.11")), None);
        assert_eq!(entry(mesh.facts(), addr("192.0.2.1")), None);
    }
}
