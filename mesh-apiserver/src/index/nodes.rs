//! Nodes: the object from the source, and what the node's agent said of itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use federation::contract::NodeValue;
use ipnet::IpNet;
use mesh_types::NodeName;

use super::Settings;
use crate::objects::Node;
use crate::registration::Registration;

#[derive(Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<String, Node>,
    registrations: BTreeMap<String, Registration>,
}

impl Nodes {
    pub(super) fn apply(&mut self, node: Node) {
        self.nodes.insert(node.metadata.name.clone(), node);
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    pub(super) fn register(&mut self, name: &str, registration: Option<Registration>) {
        match registration {
            Some(registration) => self.registrations.insert(name.to_owned(), registration),
            None => self.registrations.remove(name),
        };
    }

    /// What other clusters see of the node: nothing before the Node object exists.
    pub(super) fn value(&self, name: &str, settings: &Settings) -> Option<NodeValue> {
        let node = self.nodes.get(name)?;
        let agent = self.registrations.get(name);
        let word = mesh_types::Node {
            cluster: settings.cluster.clone(),
            cluster_id: settings.cluster_id,
            name: NodeName(name.to_owned()),
            internal_ips: node.internal_ips(),
            pod_cidrs: node.pod_cidrs(),
            wireguard_key: agent.and_then(|a| a.wireguard_key),
            wireguard_port: agent.map_or(0, |a| a.wireguard_port),
            vxlan_port: agent.map_or(0, |a| a.vxlan_port),
        };
        let mut value = NodeValue::from_node(&word);
        value.labels = Some(node.metadata.labels.clone()).filter(|l| !l.is_empty());
        node.boot_id().clone_into(&mut value.boot_id);
        Some(value)
    }

    pub(super) fn tunnel_endpoint(&self, name: &str) -> Option<IpAddr> {
        let ips = self.nodes.get(name)?.internal_ips();
        // Tunnels run over IPv4, whichever family a dual-stack node names first.
        ips.iter().find(|ip| ip.is_ipv4()).or(ips.first()).copied()
    }

    pub(super) fn pod_cidrs(&self) -> Vec<IpNet> {
        IpNet::aggregate(&self.nodes.values().flat_map(Node::pod_cidrs).map(|n| n.trunc()).collect())
    }

    pub(super) fn addresses(&self) -> Vec<IpNet> {
        let mut list: Vec<IpNet> = self.nodes.values().flat_map(Node::internal_ips).map(IpNet::from).collect();
        list.sort_unstable();
        list.dedup();
        list
    }
}
