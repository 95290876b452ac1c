//! Whether two clusters can be joined, as a pure comparison of what they declare. Every conflict names both sides.

use ipnet::IpNet;
use mesh_proto::convert::Error;
use mesh_proto::v1;
use mesh_types::prefix;

use crate::verb::peers::Peer;
use crate::wire;

/// A cluster's declaration with its prefixes read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) id: u32,
    uuid: String,
    pods: Vec<IpNet>,
    nodes: Vec<IpNet>,
    services: Vec<IpNet>,
    max_connected_clusters: u32,
    encryption: String,
}

impl TryFrom<v1::ClusterDeclaration> for Declared {
    type Error = Error;
    fn try_from(d: v1::ClusterDeclaration) -> Result<Self, Error> {
        Ok(Self {
            pods: wire::prefixes("pod_prefixes", &d.pod_prefixes)?,
            nodes: wire::prefixes("node_prefixes", &d.node_prefixes)?,
            services: wire::prefixes("service_prefixes", &d.service_prefixes)?,
            encryption: wire::encryption(d.encryption),
            name: d.name,
            id: d.id,
            uuid: d.uuid,
            max_connected_clusters: d.max_connected_clusters,
        })
    }
}

impl Declared {
    /// What packets are routed by. Service addresses are translated before they leave a node, so they may repeat.
    fn routed(&self) -> [(&'static str, &[IpNet]); 2] {
        [("pod prefix", &self.pods), ("node prefix", &self.nodes)]
    }
}

/// Everything that keeps the two from being joined.
pub(super) fn conflicts(a: &Declared, peers_of_a: &[Peer], b: &Declared, peers_of_b: &[Peer]) -> Vec<String> {
    if a.uuid == b.uuid && !a.uuid.is_empty() {
        return vec![format!("{} and {} are one and the same cluster (uuid {})", a.name, b.name, a.uuid)];
    }
    let mut found = Vec::new();
    if a.name == b.name {
        found.push(format!("duplicate name: both clusters are called {}", a.name));
    }
    if a.id == b.id {
        found.push(format!("duplicate id: {} and {} both have cluster id {}", a.name, b.name, a.id));
    }
    for (kind_a, ours) in a.routed() {
        for (kind_b, theirs) in b.routed() {
            for (x, y) in ours.iter().flat_map(|x| theirs.iter().map(move |y| (x, y))) {
                if prefix::overlap(x, y) {
                    found.push(format!("overlap: {kind_a} {x} of {} and {kind_b} {y} of {}", a.name, b.name));
                }
            }
        }
    }
    if a.encryption != b.encryption {
        found.push(format!("encryption differs: {} of {}, {} of {}", a.encryption, a.name, b.encryption, b.name));
    }
    if a.max_connected_clusters != b.max_connected_clusters {
        found.push(format!(
            "identity layout differs: up to {} clusters in {}, up to {} in {}",
            a.max_connected_clusters, a.name, b.max_connected_clusters, b.name
        ));
    }
    found.extend(known_already(a, peers_of_a, b));
    found.extend(known_already(b, peers_of_b, a));
    found
}

/// Conflicts of `newcomer` with what `side` is joined to already.
fn known_already(side: &Declared, peers: &[Peer], newcomer: &Declared) -> Vec<String> {
    let mut found = Vec::new();
    for peer in peers {
        let (is_name, is_id) = (peer.name == newcomer.name, peer.id == newcomer.id);
        if is_name && !is_id {
            found.push(format!(
                "duplicate name: {} is joined to another {} (id {}, not {})",
                side.name, peer.name, peer.id, newcomer.id
            ));
        }
        if is_id && !is_name {
            found.push(format!(
                "duplicate id: {} is joined to {}, which has the id {} of {}",
                side.name, peer.name, peer.id, newcomer.name
            ));
        }
        if is_name {
            continue;
        }
        let theirs = peer.pod_prefixes.iter().filter_map(|text| text.parse::<IpNet>().ok());
        for (x, y) in theirs.flat_map(|x| newcomer.pods.iter().map(move |y| (x, y))) {
            if prefix::overlap(&x, y) {
                found.push(format!(
                    "overlap: pod prefix {x} of {}, which {} is joined to, and pod prefix {y} of {}",
                    peer.name, side.name, newcomer.name
                ));
            }
        }
    }
    found
}

/// What works, but not as everybody expects.
pub(super) fn warnings(a: &Declared, b: &Declared) -> Vec<String> {
    prefix::first_overlap(&a.services, &b.services)
        .map(|(x, y)| {
            format!(
                "service prefix {x} of {} overlaps {y} of {}: a cluster's own Service wins where addresses are equal",
                a.name, b.name
            )
        })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: &str, id: u32, pods: &str, nodes: &str) -> Declared {
        Declared {
            name: name.into(),
            id,
            uuid: format!("uuid-{name}-{id}"),
            pods: vec![pods.parse().unwrap()],
            nodes: vec![nodes.parse().unwrap()],
            services: vec!["10.96.0.0/16".parse().unwrap()],
            max_connected_clusters: 255,
            encryption: "wireguard".into(),
        }
    }

    fn east() -> Declared {
        declared("east", 1, "10.1.0.0/16", "172.30.1.0/24")
    }

    fn found(b: &Declared) -> Vec<String> {
        conflicts(&east(), &[], b, &[])
    }

    #[test]
    fn clusters_that_differ_in_all_can_be_joined() {
        let west = declared("west", 2, "10.2.0.0/16", "172.30.2.0/24");
        assert!(found(&west).is_empty());
        assert_eq!(warnings(&east(), &west).len(), 1, "equal service prefixes are told, not refused");
    }

    #[test]
    fn every_conflict_is_reported_with_both_sides() {
        let mut twin = declared("east", 1, "10.1.128.0/17", "10.1.0.0/24");
        twin.encryption = "none".into();
        twin.uuid = "other".into();
        twin.max_connected_clusters = 511;
        assert_eq!(
            found(&twin),
            [
                "duplicate name: both clusters are called east",
                "duplicate id: east and east both have cluster id 1",
                "overlap: pod prefix 10.1.0.0/16 of east and pod prefix 10.1.128.0/17 of east",
                "overlap: pod prefix 10.1.0.0/16 of east and node prefix 10.1.0.0/24 of east",
                "encryption differs: wireguard of east, none of east",
                "identity layout differs: up to 255 clusters in east, up to 511 in east",
            ]
        );
    }

    #[test]
    fn a_cluster_is_not_joined_to_itself() {
        assert_eq!(found(&east()), ["east and east are one and the same cluster (uuid uuid-east-1)"]);
    }

    #[test]
    fn the_peers_of_either_side_count() {
        let peer = |name: &str, id, prefix: &str| {
            let mut peer = Peer::new("east", v1::PeerStatus { name: name.into(), id, ..Default::default() });
            peer.pod_prefixes = vec![prefix.into()];
            peer
        };
        let west = declared("west", 2, "10.2.0.0/16", "172.30.2.0/24");
        let known = [peer("north", 2, "10.2.7.0/24"), peer("west", 3, "10.2.0.0/16")];
        assert_eq!(
            conflicts(&east(), &known, &west, &[]),
            [
                "duplicate id: east is joined to north, which has the id 2 of west",
                "overlap: pod prefix 10.2.7.0/24 of north, which east is joined to, and pod prefix 10.2.0.0/16 of west",
                "duplicate name: east is joined to another west (id 3, not 2)",
            ]
        );
        assert!(
            conflicts(&east(), &[peer("west", 2, "10.2.0.0/16")], &west, &[]).is_empty(),
            "repeating is no conflict"
        );
    }
}
