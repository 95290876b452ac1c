//! Whether two clusters can be in one mesh. Pure; each refusal names both sides and what to do.

use certs::token::Claims;
use ipnet::IpNet;
use mesh_types::prefix::overlap;
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName};
use uuid::Uuid;

/// Why two clusters cannot join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("{one} and {other} are the same cluster (uuid {uuid}): a cluster cannot join itself")]
    SameCluster { one: ClusterName, other: ClusterName, uuid: Uuid },
    #[error(
        "two clusters are named {name}: uuid {one} and uuid {other}. Names must be unique in a mesh; if the cluster was \
         rebuilt, disconnect the old one first"
    )]
    DuplicateName { name: ClusterName, one: Uuid, other: Uuid },
    #[error(
        "{one} and {other} both have cluster id {id}: give one of them another id (its workloads have to be restarted)"
    )]
    DuplicateId { one: ClusterName, other: ClusterName, id: ClusterId },
    #[error(
        "{one_kind} prefix {one_prefix} of {one} overlaps {other_kind} prefix {other_prefix} of {other}: addresses must be \
         unique in a mesh"
    )]
    Overlap {
        one: ClusterName,
        one_kind: &'static str,
        one_prefix: IpNet,
        other: ClusterName,
        other_kind: &'static str,
        other_prefix: IpNet,
    },
    #[error(
        "{one} encrypts with {one_encryption} and {other} with {other_encryption}: set --encryption to the same in both"
    )]
    Encryption { one: ClusterName, one_encryption: &'static str, other: ClusterName, other_encryption: &'static str },
    #[error(
        "{one} is set for at most {one_max} clusters and {other} for {other_max}: this must be equal in the whole mesh"
    )]
    MaxConnectedClusters { one: ClusterName, one_max: u32, other: ClusterName, other_max: u32 },
    #[error("{kind} prefix {prefix} of {cluster} is IPv6, which this version does not carry: {peer} cannot join it")]
    Ipv6 { cluster: ClusterName, kind: &'static str, prefix: IpNet, peer: ClusterName },
    #[error("{cluster} declares no {kind} prefix, so {peer} could accept nothing of it: set its {kind} prefixes")]
    NoPrefix { cluster: ClusterName, kind: &'static str, peer: ClusterName },
    #[error(
        "{one} and {other} have a CA in common ({ca}): whoever holds its key could speak for both. Give one of them its own"
    )]
    SharedCa { one: ClusterName, other: ClusterName, ca: String },
}

/// Compares `own` with `other`, and `other` with the clusters that `own` has joined. The first conflict is returned.
pub fn check_claims(own: &Claims, other: &Claims, peers: &[Claims]) -> Result<(), Conflict> {
    conflicts(own, other, peers).into_iter().next().map_or(Ok(()), Err)
}

/// The same with every conflict, the most telling ones first.
pub(super) fn conflicts(own: &Claims, other: &Claims, peers: &[Claims]) -> Vec<Conflict> {
    let mut found: Vec<Conflict> = usable(own, &other.name);
    found.extend(usable(other, &own.name));
    if own.uuid == other.uuid {
        let (one, other) = (own.name.clone(), other.name.clone());
        // Everything else would clash, too, and say nothing more.
        found.push(Conflict::SameCluster { one, other, uuid: own.uuid });
        return found;
    }
    found.extend(pair(own, other));
    for peer in peers.iter().filter(|peer| !(peer.uuid == other.uuid && peer.name == other.name)) {
        if peer.uuid == other.uuid {
            let (one, other) = (peer.name.clone(), other.name.clone());
            found.push(Conflict::SameCluster { one, other, uuid: peer.uuid });
        } else {
            found.extend(pair(peer, other));
        }
    }
    found
}

fn pair(one: &Claims, other: &Claims) -> Vec<Conflict> {
    let mut found = Vec::new();
    let names = || (one.name.clone(), other.name.clone());
    if one.name == other.name {
        found.push(Conflict::DuplicateName { name: one.name.clone(), one: one.uuid, other: other.uuid });
    }
    if one.id == other.id {
        let id = one.id;
        let (one, other) = names();
        found.push(Conflict::DuplicateId { one, other, id });
    }
    if one.layout != other.layout {
        let (one_max, other_max) = (one.layout.max_clusters(), other.layout.max_clusters());
        let (one, other) = names();
        found.push(Conflict::MaxConnectedClusters { one, one_max, other, other_max });
    }
    if one.encryption != other.encryption {
        let (one_encryption, other_encryption) = (word(one.encryption), word(other.encryption));
        let (one, other) = names();
        found.push(Conflict::Encryption { one, one_encryption, other, other_encryption });
    }
    for (one_kind, one_prefix) in prefixes(one) {
        for (other_kind, other_prefix) in prefixes(other).filter(|(_, prefix)| overlap(one_prefix, prefix)) {
            let (one_prefix, other_prefix) = (*one_prefix, *other_prefix);
            let (one, other) = names();
            found.push(Conflict::Overlap { one, one_kind, one_prefix, other, other_kind, other_prefix });
        }
    }
    found
}

/// What this version can carry at all.
fn usable(claims: &Claims, peer: &ClusterName) -> Vec<Conflict> {
    let names = || (claims.name.clone(), peer.clone());
    let ipv6 = prefixes(claims).filter(|(_, prefix)| prefix.addr().is_ipv6()).map(|(kind, prefix)| {
        let (cluster, peer) = names();
        Conflict::Ipv6 { cluster, kind, prefix: *prefix, peer }
    });
    let kinds = [("pod", &claims.pod_prefixes), ("node", &claims.node_prefixes)];
    let missing = kinds.into_iter().filter(|(_, list)| list.is_empty()).map(|(kind, _)| {
        let (cluster, peer) = names();
        Conflict::NoPrefix { cluster, kind, peer }
    });
    ipv6.chain(missing).collect()
}

fn prefixes(claims: &Claims) -> impl Iterator<Item = (&'static str, &IpNet)> {
    let kinds = [("pod", &claims.pod_prefixes), ("node", &claims.node_prefixes), ("service", &claims.service_prefixes)];
    kinds.into_iter().flat_map(|(kind, list)| list.iter().map(move |prefix| (kind, prefix)))
}

const fn word(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::Wireguard => "wireguard",
        Encryption::None => "none",
    }
}
