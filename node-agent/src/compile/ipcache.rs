//! `IPCACHE` and `PREFIXES`: one entry per prefix.
//!
//! ```text
//!   an address in the view        own: OWN    peer: REMOTE + node   (DROP until the node is guarded)
//!   a peer node's pod prefix      REMOTE + node, no identity        (a reply must not wait for the new pod's address)
//!   a declared prefix             own: OWN    peer: REMOTE + DROP   (a miss must not leak)
//!   a prefix of a former peer                       REMOTE + DROP   (what was encrypted must not go on in clear)
//! ```
//! The first line that applies to exactly this prefix wins; the kernel's longest match does the rest.

use std::net::IpAddr;

use agent_ebpf_common::IpEntry;
use ipnet::IpNet;
use mesh_types::view::Cluster;

use super::{Facts, Refusal};
use crate::desired::Claim;

/// The entry of one prefix, `None` for "must not be there".
pub fn entry(facts: Facts<'_>, prefix: &IpNet) -> Option<IpEntry> {
    claimed(facts, prefix)
        .or_else(|| node_prefix(facts, prefix))
        .or_else(|| declared(facts, prefix))
        .or_else(|| parted(facts, prefix))
}

/// Addresses of peers that lie outside what the peer declared: an entry for one would draw other traffic into the tunnel.
pub fn refusal(facts: Facts<'_>, ip: &Claim<'_>) -> Option<Refusal> {
    let cluster = facts.peer(ip.cluster)?;
    if within(cluster, &ip.prefix) {
        return None;
    }
    Some(Refusal {
        kind: "ip",
        name: format!("{}/{}", ip.cluster, ip.prefix),
        reason: "outside_prefixes",
        text: format!("{} is not in the prefixes that cluster {} declared", ip.prefix, ip.cluster),
    })
}

/// The own cluster's claim first, then the peer with the smallest number.
fn claimed(facts: Facts<'_>, prefix: &IpNet) -> Option<IpEntry> {
    let known = facts.view.ips(prefix).filter_map(|ip| Some((facts.view.cluster(ip.cluster)?, ip)));
    let valid = known.filter(|(cluster, ip)| cluster.is_local || within(cluster, &ip.prefix));
    let (cluster, ip) = valid.min_by_key(|(cluster, _)| (!cluster.is_local, cluster.id))?;
    let entry = IpEntry { identity: ip.identity.0, cluster: cluster.id.get(), ..IpEntry::default() };
    if cluster.is_local {
        return Some(IpEntry { flags: IpEntry::FLAG_OWN, ..entry });
    }
    Some(towards(facts, cluster, ip.host, entry))
}

fn node_prefix(facts: Facts<'_>, prefix: &IpNet) -> Option<IpEntry> {
    let known = facts.view.nodes_of_pod_prefix(prefix).filter_map(|n| Some((facts.peer(&n.cluster)?, n)));
    let valid = known.filter(|(cluster, _)| within(cluster, prefix));
    let (cluster, node) = valid.min_by_key(|(cluster, node)| (cluster.id, &node.name))?;
    let entry = IpEntry { cluster: cluster.id.get(), ..IpEntry::default() };
    Some(towards(facts, cluster, node.tunnel_endpoint(), entry))
}

fn declared(facts: Facts<'_>, prefix: &IpNet) -> Option<IpEntry> {
    let clusters = facts.view.clusters().filter(|c| c.pod_prefixes.contains(prefix));
    let cluster = clusters.min_by_key(|c| (!c.is_local, c.id))?;
    let flags = if cluster.is_local { IpEntry::FLAG_OWN } else { IpEntry::FLAG_REMOTE | IpEntry::FLAG_DROP };
    Some(IpEntry { cluster: cluster.id.get(), flags, ..IpEntry::default() })
}

fn parted(facts: Facts<'_>, prefix: &IpNet) -> Option<IpEntry> {
    let cluster = facts.view.parted(prefix)?.get();
    Some(IpEntry { cluster, flags: IpEntry::FLAG_REMOTE | IpEntry::FLAG_DROP, ..IpEntry::default() })
}

/// IPv6 is not carried between clusters (README): its entries stay closed.
fn towards(facts: Facts<'_>, cluster: &Cluster, host: Option<IpAddr>, entry: IpEntry) -> IpEntry {
    let open = host.filter(|h| h.is_ipv4() && facts.agrees(cluster) && facts.may_send_to(*h));
    let drop = if open.is_some() { 0 } else { IpEntry::FLAG_DROP };
    IpEntry { node: host.map(Into::into).unwrap_or_default(), flags: IpEntry::FLAG_REMOTE | drop, ..entry }
}

fn within(cluster: &Cluster, prefix: &IpNet) -> bool {
    cluster.pod_prefixes.iter().any(|p| p.contains(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixture::{Mesh, addr, net};

    const REMOTE: u32 = IpEntry::FLAG_REMOTE;
    const DROP: u32 = IpEntry::FLAG_DROP;

    #[test]
    fn a_peers_declared_prefix_is_closed_and_the_own_one_is_marked() {
        let mesh = Mesh::two_clusters();
        let peer = entry(mesh.facts(), &net("10.2.0.0/16")).unwrap();
        assert_eq!((peer.flags, peer.cluster, peer.node.is_unset()), (REMOTE | DROP, 2, true));
        let own = entry(mesh.facts(), &net("10.1.0.0/16")).unwrap();
        assert_eq!((own.flags, own.cluster), (IpEntry::FLAG_OWN, 1));
        assert_eq!(entry(mesh.facts(), &net("10.9.0.0/16")), None);
    }

    #[test]
    fn a_former_peers_prefix_stays_closed_until_it_is_forgotten() {
        let mut mesh = Mesh::two_clusters();
        let name = mesh_types::ClusterName::new("b").unwrap();
        let gone = vec![mesh_types::view::Key::Cluster(name)];
        let delta = mesh_types::view::Delta { deletes: gone, ..mesh_types::view::Delta::default() };
        let changes = mesh.view.apply(delta);
        let prefix = net("10.2.0.0/16");
        assert!(changes.prefixes.contains(&prefix));
        let closed = entry(mesh.facts(), &prefix).unwrap();
        assert_eq!((closed.flags, closed.cluster), (REMOTE | DROP, 2));
        // A snapshot without the cluster does not open it either, and one that has it makes it a peer's again.
        let mut next = crate::desired::View::default();
        next.succeed(&mesh.view);
        assert_eq!(next.parted_count(), 1);
        let mut back = Mesh::two_clusters();
        back.view.succeed(&mesh.view);
        assert_eq!(back.view.parted_count(), 0);
        let mut snapshot = crate::desired::View::default();
        snapshot.succeed(&back.view);
        assert_eq!(snapshot.parted_count(), 1, "the own cluster's prefix is none");
        assert_eq!(mesh.view.forget_parted().prefixes.into_iter().collect::<Vec<_>>(), [prefix]);
        assert_eq!(entry(mesh.facts(), &prefix), None);
    }

    #[test]
    fn a_peers_address_opens_only_when_its_node_is_guarded() {
        let mut mesh = Mesh::two_clusters();
        mesh.ip("b", "10.2.1.5", "172.30.2.11", 0x2_0101);
        let closed = entry(mesh.facts(), &net("10.2.1.5/32")).unwrap();
        assert_eq!(closed.flags, REMOTE | DROP);
        mesh.guarded.insert(addr("172.30.2.11"));
        let open = entry(mesh.facts(), &net("10.2.1.5/32")).unwrap();
        assert_eq!((open.flags, open.identity), (REMOTE, 0x2_0101));
        assert_eq!(IpAddr::from(open.node), addr("172.30.2.11"));
    }

    #[test]
    fn a_node_prefix_reaches_pods_that_are_not_known_yet() {
        let mut mesh = Mesh::two_clusters();
        mesh.guarded.insert(addr("172.30.2.11"));
        let found = entry(mesh.facts(), &net("10.2.1.0/24")).unwrap();
        assert_eq!((found.flags, found.identity), (REMOTE, 0));
        assert_eq!(IpAddr::from(found.node), addr("172.30.2.11"));
    }

    #[test]
    fn an_address_outside_the_declared_prefixes_is_refused() {
        let mut mesh = Mesh::two_clusters();
        mesh.ip("b", "172.30.2.11", "172.30.2.11", 6);
        assert_eq!(entry(mesh.facts(), &net("172.30.2.11/32")), None);
        let ip = mesh.view.all_ips().next().unwrap();
        assert_eq!(refusal(mesh.facts(), &ip).unwrap().reason, "outside_prefixes");
    }

    #[test]
    fn the_own_cluster_wins_a_contested_address() {
        let mut mesh = Mesh::two_clusters();
        mesh.ip("b", "10.2.1.5", "172.30.2.11", 9);
        mesh.ip("a", "10.2.1.5", "172.30.1.11", 8);
        assert_eq!(entry(mesh.facts(), &net("10.2.1.5/32")).unwrap().flags, IpEntry::FLAG_OWN);
    }

    #[test]
    fn a_peer_that_protects_otherwise_stays_closed() {
        let mut mesh = Mesh::two_clusters();
        mesh.ip("b", "10.2.1.5", "172.30.2.11", 9);
        mesh.guarded.insert(addr("172.30.2.11"));
        mesh.encryption("b", mesh_types::view::Encryption::None);
        assert_eq!(entry(mesh.facts(), &net("10.2.1.5/32")).unwrap().flags, REMOTE | DROP);
        assert_eq!(crate::compile::disagreements(mesh.facts()).len(), 1);
    }
}
