//! Pod: an address, the node it runs on, and the labels that make its identity.

use std::net::IpAddr;

use serde::Deserialize;

use super::Meta;
use super::meta::null_as_default;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Pod {
    pub metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    service_account_name: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "null_as_default")]
    init_containers: Vec<Container>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    /// Of an init container: `Always` makes it a sidecar.
    #[serde(default)]
    restart_policy: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    ports: Vec<ContainerPort>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    #[serde(default)]
    pub name: String,
    pub container_port: u16,
    #[serde(default)]
    pub protocol: Option<mesh_types::Protocol>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default, rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default, rename = "podIPs", deserialize_with = "null_as_default")]
    pod_ips: Vec<PodIp>,
    #[serde(default, rename = "hostIP")]
    host_ip: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PodIp {
    ip: String,
}

impl Pod {
    /// Addresses of its own: none for a host-network pod (it has its node's) and none once it has ended.
    pub fn own_ips(&self) -> Vec<IpAddr> {
        if self.spec.host_network || matches!(self.status.phase.as_str(), "Succeeded" | "Failed") {
            return Vec::new();
        }
        let listed = self.status.pod_ips.iter().map(|p| p.ip.as_str());
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in listed.chain(self.status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        ips
    }

    pub fn host_ip(&self) -> Option<IpAddr> {
        self.status.host_ip.as_ref()?.parse().ok()
    }

    pub fn node_name(&self) -> &str {
        &self.spec.node_name
    }

    pub fn service_account(&self) -> &str {
        self.spec.service_account_name.as_deref().filter(|a| !a.is_empty()).unwrap_or("default")
    }

    /// Container ports that have a name, those of sidecars last, as Kubernetes looks for them. Init containers that end have
    /// none.
    pub fn named_ports(&self) -> impl Iterator<Item = &ContainerPort> {
        let sidecars = self.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        self.spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).filter(|p| !p.name.is_empty())
    }
}
