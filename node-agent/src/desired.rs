//! What the mesh says: the merged view's objects as tables, with the indices that make a change cost only itself.
//!
//! Owns the tables and says which keys a change touches. Must never decide what a key means for the kernel: that is
//! `compile`'s. Identities' label sets are not kept: nothing here needs more than their numbers yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_types::view::{Cluster, Delta, Key, Object, Service, ServiceBackend};
use mesh_types::{ClusterId, ClusterName, Node, NodeName, ServiceName};

mod addresses;
mod changes;
mod node_index;

pub use addresses::Claim;
use addresses::{Addresses, Effect};
pub use changes::Changes;
use node_index::NodeIndex;

/// All clusters' declarations and backends of one service name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceGroup {
    pub declared: BTreeMap<ClusterName, Service>,
    pub backends: BTreeMap<(ClusterName, IpAddr), ServiceBackend>,
}

/// The tables.
///
/// # Invariants
/// - No table keeps an empty inner map, so that "absent" has one form.
/// - `backend_services`, `hosted` and `node_index` say exactly what `services`, `ips` and `nodes` say.
#[derive(Debug, Clone, Default)]
pub struct View {
    clusters: BTreeMap<ClusterName, Cluster>,
    nodes: BTreeMap<(ClusterName, NodeName), Arc<Node>>,
    node_index: NodeIndex,
    ips: Addresses,
    services: BTreeMap<ServiceName, ServiceGroup>,
    backend_services: HashMap<IpAddr, BTreeSet<ServiceName>>,
    hosted: HashMap<IpAddr, BTreeSet<IpNet>>,
    /// Pod prefixes of clusters that have left the mesh, with their numbers, until [`View::forget_parted`].
    parted: BTreeMap<IpNet, ClusterId>,
    revision: i64,
}

impl View {
    /// Takes a delta in; returns the keys whose meaning may have changed.
    pub fn apply(&mut self, delta: Delta) -> Changes {
        let mut changes = Changes::default();
        for object in delta.upserts {
            self.upsert(object, &mut changes);
        }
        for key in delta.deletes {
            self.delete(&key, &mut changes);
        }
        self.revision = delta.revision;
        changes
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn set_revision(&mut self, revision: i64) {
        self.revision = revision;
    }

    /// To be called once much has been taken in: it gives back what the maps of addresses hold in reserve.
    pub fn compact(&mut self) {
        self.ips.compact();
    }

    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    pub fn cluster(&self, name: &ClusterName) -> Option<&Cluster> {
        self.clusters.get(name)
    }

    /// The cluster that has left the mesh and had declared exactly this prefix.
    pub fn parted(&self, prefix: &IpNet) -> Option<ClusterId> {
        self.parted.get(prefix).copied()
    }

    /// How many prefixes of clusters that have left are still kept.
    pub fn parted_count(&self) -> usize {
        self.parted.len()
    }

    /// Forgets them all; their keys.
    pub fn forget_parted(&mut self) -> Changes {
        let prefixes = std::mem::take(&mut self.parted).into_keys().collect();
        Changes { prefixes, ..Changes::default() }
    }

    /// Takes over what the view before this one knew of clusters that are in neither, or only in that one.
    pub fn succeed(&mut self, before: &Self) {
        self.parted.clone_from(&before.parted);
        let gone: Vec<&Cluster> = before.clusters().filter(|old| !self.clusters.contains_key(&old.name)).collect();
        for cluster in gone {
            self.part(cluster);
        }
        let joined: Vec<IpNet> = self.clusters.values().flat_map(|cluster| cluster.pod_prefixes.clone()).collect();
        self.parted.retain(|prefix, _| !joined.contains(prefix));
    }

    fn part(&mut self, cluster: &Cluster) {
        if !cluster.is_local {
            self.parted.extend(cluster.pod_prefixes.iter().map(|prefix| (*prefix, cluster.id)));
        }
    }

    pub fn local(&self) -> Option<&Cluster> {
        self.clusters.values().find(|c| c.is_local)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node)
    }

    /// Nodes of the other clusters.
    pub fn peer_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|n| self.clusters.get(&n.cluster).is_some_and(|c| !c.is_local))
    }

    pub fn node(&self, cluster: &ClusterName, name: &NodeName) -> Option<&Node> {
        self.nodes.get(&(cluster.clone(), name.clone())).map(|node| &**node)
    }

    /// Nodes that others reach at this address.
    pub fn nodes_at(&self, address: &IpAddr) -> impl Iterator<Item = &Node> {
        self.node_index.at(address)
    }

    /// Nodes whose pods take addresses from exactly this prefix.
    pub fn nodes_of_pod_prefix(&self, prefix: &IpNet) -> impl Iterator<Item = &Node> {
        self.node_index.of_pod_prefix(prefix)
    }

    /// Who claims exactly this prefix.
    pub fn ips(&self, prefix: &IpNet) -> impl Iterator<Item = Claim<'_>> {
        self.ips.of(prefix)
    }

    pub fn all_ips(&self) -> impl Iterator<Item = Claim<'_>> {
        self.ips.iter()
    }

    /// What one cluster says about one address.
    pub fn ip_of(&self, cluster: &ClusterName, address: IpAddr) -> Option<Claim<'_>> {
        self.ips.get(cluster, &IpNet::from(address))
    }

    /// Prefixes whose tunnel ends at `host`.
    pub fn hosted_by(&self, host: IpAddr) -> impl Iterator<Item = &IpNet> {
        self.hosted.get(&host).into_iter().flatten()
    }

    pub fn service(&self, name: &ServiceName) -> Option<&ServiceGroup> {
        self.services.get(name)
    }

    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &ServiceGroup)> {
        self.services.iter()
    }

    /// Services that have a backend of this address.
    pub fn services_at(&self, address: IpAddr) -> impl Iterator<Item = &ServiceName> {
        self.backend_services.get(&address).into_iter().flatten()
    }

    /// Services with a backend on the node whose tunnel ends at `host`.
    pub fn services_behind(&self, host: IpAddr) -> BTreeSet<ServiceName> {
        self.hosted_by(host).flat_map(|prefix| self.services_at(prefix.addr())).cloned().collect()
    }

    fn upsert(&mut self, object: Object, changes: &mut Changes) {
        match object {
            Object::Cluster(cluster) => {
                self.parted.retain(|prefix, _| !cluster.pod_prefixes.contains(prefix));
                let old = self.clusters.insert(cluster.name.clone(), cluster.clone());
                if old.as_ref() != Some(&cluster) {
                    self.cluster_changed(old.as_ref(), Some(&cluster), changes);
                }
            }
            Object::Node(node) => {
                let node = Arc::new(node);
                let old = self.nodes.insert((node.cluster.clone(), node.name.clone()), Arc::clone(&node));
                self.node_index.replace(old.as_deref(), &node);
                if old.as_ref() != Some(&node) {
                    changes.node(old.as_deref());
                    changes.node(Some(&node));
                }
            }
            Object::Ip(ip) => {
                let Effect::Changed { old_host } = self.ips.insert(&ip) else { return };
                self.unhost(&ip.prefix, old_host);
                if let Some(host) = ip.host {
                    self.hosted.entry(host).or_default().insert(ip.prefix);
                }
                self.ip_changed(&ip.prefix, changes);
            }
            Object::Service(service) => {
                let name = service.name.clone();
                let group = self.services.entry(name.clone()).or_default();
                let old = group.declared.insert(service.cluster.clone(), service.clone());
                if old.as_ref() != Some(&service) {
                    changes.services.insert(name);
                }
            }
            Object::Backend(backend) => {
                let (name, address) = (backend.service.clone(), backend.address);
                let group = self.services.entry(name.clone()).or_default();
                let old = group.backends.insert((backend.cluster.clone(), address), backend.clone());
                self.backend_services.entry(address).or_default().insert(name.clone());
                if old.as_ref() != Some(&backend) {
                    changes.services.insert(name);
                }
            }
            Object::Identity(_) => {}
        }
    }

    fn delete(&mut self, key: &Key, changes: &mut Changes) {
        match key {
            Key::Cluster(name) => {
                if let Some(old) = self.clusters.remove(name) {
                    self.part(&old);
                    self.cluster_changed(Some(&old), None, changes);
                }
            }
            Key::Node { cluster, name } => {
                let old = self.nodes.remove(&(cluster.clone(), name.clone()));
                if let Some(old) = &old {
                    self.node_index.remove(old);
                }
                changes.node(old.as_deref());
            }
            Key::Ip { cluster, prefix } => {
                let Effect::Changed { old_host } = self.ips.remove(cluster, prefix) else { return };
                self.unhost(prefix, old_host);
                self.ip_changed(prefix, changes);
            }
            Key::Service { cluster, service } => {
                self.shrink(service, changes, |group| group.declared.remove(cluster).is_some());
            }
            Key::Backend { cluster, service, address } => {
                self.shrink(service, changes, |group| group.backends.remove(&(cluster.clone(), *address)).is_some());
                let still = self.services.get(service).is_some_and(|g| g.backends.keys().any(|(_, a)| a == address));
                if !still && let Some(names) = self.backend_services.get_mut(address) {
                    names.remove(service);
                    if names.is_empty() {
                        self.backend_services.remove(address);
                    }
                }
            }
            Key::Identity(_) => {}
        }
    }

    fn shrink(&mut self, name: &ServiceName, changes: &mut Changes, take: impl FnOnce(&mut ServiceGroup) -> bool) {
        let Some(group) = self.services.get_mut(name) else { return };
        if take(group) {
            changes.services.insert(name.clone());
        }
        if group.declared.is_empty() && group.backends.is_empty() {
            self.services.remove(name);
        }
    }

    /// An address may be claimed by two clusters under one host only while it moves: the other claim keeps the entry.
    fn unhost(&mut self, prefix: &IpNet, old_host: Option<IpAddr>) {
        let Some(host) = old_host else { return };
        if self.ips(prefix).any(|claim| claim.host == Some(host)) {
            return;
        }
        if let Some(prefixes) = self.hosted.get_mut(&host) {
            prefixes.remove(prefix);
            if prefixes.is_empty() {
                self.hosted.remove(&host);
            }
        }
    }

    fn ip_changed(&self, prefix: &IpNet, changes: &mut Changes) {
        changes.prefixes.insert(*prefix);
        if prefix.prefix_len() == prefix.max_prefix_len() {
            changes.services.extend(self.services_at(prefix.addr()).cloned());
        }
    }

    /// Everything of a cluster hangs on its number, its prefixes and its encryption.
    fn cluster_changed(&self, old: Option<&Cluster>, new: Option<&Cluster>, changes: &mut Changes) {
        changes.topology = true;
        for cluster in [old, new].into_iter().flatten() {
            changes.prefixes.extend(cluster.pod_prefixes.iter().copied());
        }
        let Some(name) = new.or(old).map(|c| &c.name) else { return };
        changes.prefixes.extend(self.all_ips().filter(|ip| ip.cluster == name).map(|ip| ip.prefix));
        for node in self.nodes().filter(|n| n.cluster == *name) {
            changes.node(Some(node));
        }
        let concerns = |g: &ServiceGroup| g.declared.contains_key(name) || g.backends.keys().any(|(c, _)| c == name);
        changes.services.extend(self.services.iter().filter(|(_, g)| concerns(g)).map(|(n, _)| n.clone()));
    }
}

#[cfg(test)]
mod tests;
