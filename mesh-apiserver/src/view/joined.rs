//! Whose facts are shown: the own cluster's, and those of a peer whose configuration is mirrored.
//!
//! A cluster that is parted has no record from that revision on, so its facts are hidden at once on every replica, whoever
//! removes them and when. One that is joined again is shown when it has told its configuration: until then what is left of it
//! may be another cluster's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use mesh_types::labels::POLICY_CLUSTER;
use mesh_types::view::{Key, Object};
use mesh_types::{ClusterName, NodeName, SecurityIdentity, ServiceName};

use super::{View, decode};

/// # Invariants
/// `shown` are those of `configured` that the view has a cluster object of.
#[derive(Clone, Default)]
pub(super) struct Joined {
    configured: BTreeSet<ClusterName>,
    /// As text, since a number's label is asked for.
    shown: BTreeSet<String>,
}

/// The cluster that an object is a fact of; `None` for a cluster itself, and for what belongs to nobody.
pub(super) fn owner<'a>(key: &'a Key, object: &'a Object) -> Option<&'a str> {
    match key {
        Key::Cluster(_) => None,
        // The number alone does not say it: how its bits are split is not known here. A peer's label was checked.
        Key::Identity(_) => match object {
            Object::Identity(identity) => identity.labels.get(POLICY_CLUSTER),
            _ => None,
        },
        Key::Node { cluster, .. }
        | Key::Ip { cluster, .. }
        | Key::Service { cluster, .. }
        | Key::Backend { cluster, .. } => Some(cluster.as_str()),
    }
}

impl View {
    pub(super) fn is_shown(&self, cluster: &str) -> bool {
        cluster == self.own.as_str() || self.joined.shown.contains(cluster)
    }

    /// Takes in whether a peer's configuration is mirrored.
    pub(super) fn configured(
        &mut self,
        cluster: &ClusterName,
        is_there: bool,
        touched: &mut BTreeMap<Key, Option<Object>>,
    ) {
        if is_there {
            self.joined.configured.insert(cluster.clone());
        } else {
            self.joined.configured.remove(cluster);
        }
        let is_joined = self.facts.contains_key(&Key::Cluster(cluster.clone()));
        self.show(cluster, is_there && is_joined, touched);
    }

    /// Before a cluster object comes or goes.
    pub(super) fn note_cluster(&mut self, key: &Key, is_there: bool, touched: &mut BTreeMap<Key, Option<Object>>) {
        if let Key::Cluster(cluster) = key {
            let is_configured = self.joined.configured.contains(cluster);
            self.show(cluster, is_there && is_configured, touched);
        }
    }

    fn show(&mut self, cluster: &ClusterName, is_shown: bool, touched: &mut BTreeMap<Key, Option<Object>>) {
        if *cluster == self.own || is_shown == self.joined.shown.contains(cluster.as_str()) {
            return;
        }
        for (key, object) in self.facts_of(cluster) {
            if !touched.contains_key(key) {
                touched.insert(key.clone(), Some(object).filter(|object| self.is_visible(key, object)).cloned());
            }
        }
        if is_shown {
            self.joined.shown.insert(cluster.to_string());
        } else {
            self.joined.shown.remove(cluster.as_str());
        }
    }

    /// All that is known of a cluster: numbers of all clusters are looked through, of the rest only its own.
    fn facts_of<'a>(&'a self, cluster: &'a ClusterName) -> impl Iterator<Item = (&'a Key, &'a Object)> {
        let owned = |cluster: &ClusterName| cluster.clone();
        let everywhere = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
        let first = [
            Key::Node { cluster: owned(cluster), name: NodeName(String::new()) },
            Key::Ip { cluster: owned(cluster), prefix: everywhere },
            Key::Service { cluster: owned(cluster), service: ServiceName::new("", "") },
            Key::Backend { cluster: owned(cluster), service: ServiceName::new("", ""), address: decode::FIRST },
        ];
        let is_of = move |(key, object): &(&Key, &Object)| owner(key, object) == Some(cluster.as_str());
        let numbers = self.facts.range(Key::Identity(SecurityIdentity(0))..);
        let numbers = numbers.take_while(|(key, _)| matches!(key, Key::Identity(_))).filter(is_of);
        numbers.chain(first.into_iter().flat_map(move |first| {
            let kind = std::mem::discriminant(&first);
            let same_kind = move |(key, _): &(&Key, &Object)| std::mem::discriminant(*key) == kind;
            self.facts.range(first..).take_while(same_kind).take_while(is_of)
        }))
    }
}

#[cfg(test)]
mod tests;
