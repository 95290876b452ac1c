//! What the node's links, rules and routes must carry: the other clusters' nodes and prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use mesh_types::view::Encryption;

use super::Facts;
use crate::names::CILIUM_WIREGUARD_PORT;

/// The underlay as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub encryption: Encryption,
    /// By the address that tunnels end at.
    pub peers: BTreeMap<Ipv4Addr, Peer>,
    /// Declared prefixes of the peers.
    pub prefixes: BTreeSet<Ipv4Net>,
}

/// A node of another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub cluster: String,
    pub node: String,
    /// `None` until its agent has registered: guarded, but not reachable.
    pub key: Option<[u8; 32]>,
    pub endpoint: SocketAddr,
}

/// `None` while the view does not say which cluster this is.
pub fn plan(facts: Facts<'_>) -> Option<Plan> {
    let own = facts.local()?;
    let mut peers = BTreeMap::new();
    for node in facts.view.peer_nodes() {
        let Some(IpAddr::V4(address)) = node.tunnel_endpoint() else { continue };
        if !facts.peer(&node.cluster).is_some_and(|c| facts.agrees(c)) {
            continue;
        }
        let port = if node.wireguard_port == 0 { CILIUM_WIREGUARD_PORT } else { node.wireguard_port };
        let peer = Peer {
            cluster: node.cluster.to_string(),
            node: node.name.to_string(),
            key: node.wireguard_key,
            endpoint: SocketAddr::from((address, port)),
        };
        // Two clusters with the same node address cannot both be reached; the first by name keeps it.
        peers.entry(address).or_insert(peer);
    }
    let peer_clusters = facts.view.clusters().filter(|c| !c.is_local);
    let prefixes = peer_clusters.flat_map(|c| &c.pod_prefixes).filter_map(|prefix| match prefix {
        IpNet::V4(prefix) => Some(*prefix),
        IpNet::V6(_) => None,
    });
    Some(Plan { encryption: own.encryption, prefixes: prefixes.collect(), peers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixture::Mesh;

    #[test]
    fn the_plan_names_peers_and_their_prefixes_only() {
        let mesh = Mesh::two_clusters();
        let plan = plan(mesh.facts()).unwrap();
        assert_eq!(plan.peers.keys().map(ToString::to_string).collect::<Vec<_>>(), ["172.30.2.11", "172.30.2.12"]);
        assert_eq!(plan.peers.values().next().unwrap().endpoint, "172.30.2.11:51881".parse().unwrap());
        assert_eq!(plan.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.2.0.0/16"]);
    }

    #[test]
    fn a_peer_that_protects_otherwise_has_routes_to_nowhere_and_no_tunnel() {
        let mut mesh = Mesh::two_clusters();
        mesh.encryption("b", Encryption::None);
        let plan = plan(mesh.facts()).unwrap();
        assert!(plan.peers.is_empty());
        assert_eq!(plan.prefixes.len(), 1);
    }
}
