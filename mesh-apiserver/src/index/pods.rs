//! Pods: who has which address.
//!
//! Two pods may claim one address for a moment (one ends while another starts): the first one keeps it until it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use federation::contract::IpValue;
use federation::contract::ip::{IpPort, WIREGUARD_KEY};
use ipnet::IpNet;
use mesh_types::Protocol;
use mesh_types::view::Encryption;

use super::{Address, Settings};
use crate::identity::filter;
use crate::objects::{Object, ObjectKey, Pod};

#[derive(Default)]
pub(super) struct Pods {
    by_key: BTreeMap<ObjectKey, Pod>,
    /// Claimants of each address, oldest first; never empty.
    claims: BTreeMap<IpAddr, Vec<ObjectKey>>,
    /// Addresses with more than one claimant.
    contested: BTreeSet<IpAddr>,
    by_node: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// The prefixes that other clusters were told pods have addresses in; `None` while they were told nothing.
    declared: Option<Vec<IpNet>>,
    /// Claimed IPv4 addresses that lie in none of them.
    undeclared: BTreeSet<IpAddr>,
}

impl Pods {
    /// The addresses whose value may have changed.
    pub(super) fn apply(&mut self, pod: Pod) -> BTreeSet<IpAddr> {
        let object = Object::Pod(pod);
        let key = object.key();
        let Object::Pod(pod) = object else { return BTreeSet::new() };
        let now = pod.own_ips();
        let mut affected: BTreeSet<IpAddr> = now.iter().copied().collect();
        if let Some(before) = self.by_key.remove(&key) {
            self.unlist(&key, &before);
            for ip in before.own_ips() {
                affected.insert(ip);
                if !now.contains(&ip) {
                    self.unclaim(ip, &key);
                }
            }
        }
        for ip in now {
            if !self.is_declared(ip) {
                self.undeclared.insert(ip);
            }
            let claimants = self.claims.entry(ip).or_default();
            if !claimants.contains(&key) {
                claimants.push(key.clone());
            }
            if claimants.len() > 1 {
                self.contested.insert(ip);
            }
        }
        self.by_node.entry(pod.node_name().to_owned()).or_default().insert(key.clone());
        self.by_key.insert(key, pod);
        affected
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) -> BTreeSet<IpAddr> {
        let Some(pod) = self.by_key.remove(key) else { return BTreeSet::new() };
        self.unlist(key, &pod);
        let ips: BTreeSet<IpAddr> = pod.own_ips().into_iter().collect();
        for ip in &ips {
            self.unclaim(*ip, key);
        }
        ips
    }

    /// The pod whose address this is.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<&Pod> {
        self.by_key.get(self.claims.get(&ip)?.first()?)
    }

    pub(super) fn ips_on_node(&self, node: &str) -> BTreeSet<IpAddr> {
        let pods = self.by_node.get(node).into_iter().flatten();
        pods.filter_map(|key| self.by_key.get(key)).flat_map(Pod::own_ips).collect()
    }

    pub(super) fn ips_in_namespace(&self, namespace: &str) -> BTreeSet<IpAddr> {
        // Pods are ordered by namespace first.
        let from = ObjectKey { kind: crate::objects::Kind::Pod, namespace: namespace.to_owned(), name: String::new() };
        let pods = self.by_key.range(from..).take_while(|(key, _)| key.namespace == namespace);
        pods.flat_map(|(_, pod)| pod.own_ips()).collect()
    }

    /// Pods that claim an address another one has.
    pub(super) fn conflicts(&self) -> BTreeMap<ObjectKey, String> {
        let contested = self.contested.iter().filter_map(|ip| Some((ip, self.claims.get(ip)?.split_first()?)));
        contested
            .flat_map(|(ip, (owner, others))| {
                others.iter().map(move |key| (key.clone(), format!("address {ip} belongs to {owner} until that goes")))
            })
            .collect()
    }

    /// Other clusters are told that pods have addresses in these prefixes.
    pub(super) fn declare(&mut self, prefixes: &[IpNet]) {
        if self.declared.as_deref() != Some(prefixes) {
            self.declared = Some(prefixes.to_vec());
            self.undeclared = self.claims.keys().copied().filter(|ip| !self.is_declared(*ip)).collect();
        }
    }

    /// Nodes with pods that other clusters will not take, by name: how many, and one of their addresses.
    pub(super) fn undeclared(&self) -> BTreeMap<String, (usize, IpAddr)> {
        let mut nodes: BTreeMap<String, (usize, IpAddr)> = BTreeMap::new();
        for ip in &self.undeclared {
            if let Some(pod) = self.owner(*ip) {
                nodes.entry(pod.node_name().to_owned()).or_insert((0, *ip)).0 += 1;
            }
        }
        nodes
    }

    fn is_declared(&self, ip: IpAddr) -> bool {
        // Of IPv6 nothing is exported.
        let lies_in = |prefixes: &Vec<IpNet>| prefixes.iter().any(|prefix| prefix.contains(&ip));
        ip.is_ipv6() || self.declared.as_ref().is_none_or(lies_in)
    }

    fn unclaim(&mut self, ip: IpAddr, key: &ObjectKey) {
        if let Some(claimants) = self.claims.get_mut(&ip) {
            claimants.retain(|k| k != key);
            if claimants.len() < 2 {
                self.contested.remove(&ip);
            }
            if claimants.is_empty() {
                self.claims.remove(&ip);
                self.undeclared.remove(&ip);
            }
        }
    }

    fn unlist(&mut self, key: &ObjectKey, pod: &Pod) {
        if let Some(keys) = self.by_node.get_mut(pod.node_name()) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(pod.node_name());
            }
        }
    }
}

pub(super) fn address(
    pod: &Pod,
    ip: IpAddr,
    host: Option<IpAddr>,
    namespace_labels: Option<&BTreeMap<String, String>>,
    settings: &Settings,
) -> Address {
    let named_ports = pod.named_ports().map(|p| IpPort {
        name: p.name.clone(),
        port: p.container_port,
        protocol: p.protocol.unwrap_or(Protocol::Tcp),
    });
    let value = IpValue {
        ip: ip.to_string(),
        host_ip: host.map(|h| h.to_string()).unwrap_or_default(),
        key: if settings.encryption == Encryption::Wireguard { WIREGUARD_KEY } else { 0 },
        namespace: pod.metadata.namespace.clone(),
        pod_name: pod.metadata.name.clone(),
        pod_uid: pod.metadata.uid.clone(),
        service_account: pod.service_account().to_owned(),
        named_ports: named_ports.collect(),
        ..IpValue::default()
    };
    Address { labels: filter::identity_labels(&settings.cluster, pod, namespace_labels), value }
}
