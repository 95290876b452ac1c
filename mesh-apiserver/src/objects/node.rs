//! Node: the addresses and pod prefixes that other clusters need.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::Meta;
use super::meta::null_as_default;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Node {
    pub metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<IpNet>,
    #[serde(default, rename = "podCIDRs", deserialize_with = "null_as_default")]
    pod_cidrs: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, deserialize_with = "null_as_default")]
    addresses: Vec<NodeAddress>,
    #[serde(default)]
    node_info: NodeInfo,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct NodeInfo {
    #[serde(default, rename = "bootID")]
    boot_id: String,
}

/// `type` is one of Kubernetes' words (InternalIP, ExternalIP, Hostname, ...).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub kind: String,
    pub address: String,
}

impl Node {
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let listed = &self.spec.pod_cidrs;
        if listed.is_empty() { self.spec.pod_cidr.into_iter().collect() } else { listed.clone() }
    }

    pub fn addresses(&self) -> &[NodeAddress] {
        &self.status.addresses
    }

    /// InternalIPs in the order of the object; the first is the tunnel endpoint.
    pub fn internal_ips(&self) -> Vec<IpAddr> {
        let internal = self.status.addresses.iter().filter(|a| a.kind == "InternalIP");
        internal.filter_map(|a| a.address.parse().ok()).collect()
    }

    pub fn boot_id(&self) -> &str {
        &self.status.node_info.boot_id
    }
}
