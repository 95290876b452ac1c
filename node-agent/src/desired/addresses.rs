//! Who claims which address. The largest table of an agent by far, so it keeps only what the kernel is told, and names of
//! clusters once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::view::Ip;
use mesh_types::{ClusterName, SecurityIdentity};

/// What one cluster says about one address or prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    pub cluster: &'a ClusterName,
    pub prefix: IpNet,
    pub identity: SecurityIdentity,
    /// The node that hosts it: the tunnel's far end.
    pub host: Option<IpAddr>,
}

/// Place of a cluster's name in [`Addresses::names`].
type NameId = u16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    identity: SecurityIdentity,
    host: Option<IpAddr>,
}

/// What taking a claim in, or away, did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// The claim is another one now, or gone. Before, it named this host, if it was there and named one.
    Changed {
        old_host: Option<IpAddr>,
    },
}

/// # Invariants
/// A name keeps its place as long as the table lives: clusters are few, and come back.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    names: Vec<ClusterName>,
    places: BTreeMap<ClusterName, NameId>,
    claims: BTreeMap<(IpNet, NameId), Stored>,
}

impl Addresses {
    pub(super) fn insert(&mut self, ip: &Ip) -> Effect {
        let stored = Stored { identity: ip.identity, host: ip.host };
        let key = (ip.prefix, self.place(&ip.cluster));
        match self.claims.insert(key, stored) {
            Some(old) if old == stored => Effect::Nothing,
            old => Effect::Changed { old_host: old.and_then(|old| old.host) },
        }
    }

    pub(super) fn remove(&mut self, cluster: &ClusterName, prefix: &IpNet) -> Effect {
        let removed = self.places.get(cluster).and_then(|place| self.claims.remove(&(*prefix, *place)));
        removed.map_or(Effect::Nothing, |old| Effect::Changed { old_host: old.host })
    }

    pub(super) fn get(&self, cluster: &ClusterName, prefix: &IpNet) -> Option<Claim<'_>> {
        let key = (*prefix, *self.places.get(cluster)?);
        self.claims.get(&key).map(|stored| self.claim(&key, stored))
    }

    /// All claims of exactly this prefix.
    pub(super) fn of(&self, prefix: &IpNet) -> impl Iterator<Item = Claim<'_>> {
        let all = (*prefix, NameId::MIN)..=(*prefix, NameId::MAX);
        self.claims.range(all).map(|(key, stored)| self.claim(key, stored))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Claim<'_>> {
        self.claims.iter().map(|(key, stored)| self.claim(key, stored))
    }

    /// Gives back the room that a table taken in piece by piece keeps free: a B-tree that grew in the order of its keys is half
    /// empty, one that is made at once is full.
    pub(super) fn compact(&mut self) {
        self.claims = std::mem::take(&mut self.claims).into_iter().collect();
    }

    fn claim(&self, (prefix, place): &(IpNet, NameId), stored: &Stored) -> Claim<'_> {
        let cluster = &self.names[usize::from(*place)];
        Claim { cluster, prefix: *prefix, identity: stored.identity, host: stored.host }
    }

    fn place(&mut self, name: &ClusterName) -> NameId {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = NameId::try_from(self.names.len()).expect("a mesh has at most 511 clusters at a time");
        self.names.push(name.clone());
        self.places.insert(name.clone(), place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ip, name};
    use super::*;
    use mesh_types::view::Object;

    fn word(of: &str, host: &str, identity: u32) -> Ip {
        let Object::Ip(word) = ip(of, "10.2.0.5", host, identity) else { panic!("an address") };
        word
    }

    #[test]
    fn clusters_claims_of_one_address_stand_side_by_side() {
        let mut table = Addresses::default();
        let prefix: IpNet = "10.2.0.5/32".parse().unwrap();
        let host = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let changed = |old_host| Effect::Changed { old_host };
        assert_eq!(table.insert(&word("east", "172.30.2.11", 7)), changed(None));
        assert_eq!(table.insert(&word("west", "172.30.3.11", 8)), changed(None));
        assert_eq!(table.insert(&word("east", "172.30.2.11", 7)), Effect::Nothing);
        assert_eq!(table.insert(&word("east", "172.30.2.12", 7)), changed(host("172.30.2.11")));
        let all: Vec<_> = table.of(&prefix).map(|claim| (claim.cluster.as_str(), claim.identity.0)).collect();
        assert_eq!(all, [("east", 7), ("west", 8)]);
        assert_eq!(table.get(&name("east"), &prefix).unwrap().host, host("172.30.2.12"));
        assert_eq!(table.remove(&name("east"), &prefix), changed(host("172.30.2.12")));
        assert_eq!(table.remove(&name("east"), &prefix), Effect::Nothing);
        assert_eq!(table.remove(&name("north"), &prefix), Effect::Nothing, "never heard of");
        assert_eq!(table.iter().count(), 1);
    }

    #[test]
    fn a_claim_takes_no_more_room_than_it_must() {
        assert!(size_of::<((IpNet, NameId), Stored)>() <= 48, "there are hundreds of thousands of them");
    }
}
