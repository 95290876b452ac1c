//! Service: a name, virtual addresses and ports. Its annotations say what the mesh does with it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_types::Protocol;
use serde::Deserialize;

use super::Meta;
use super::meta::null_as_default;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Service {
    pub metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default, rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(default, rename = "clusterIPs", deserialize_with = "null_as_default")]
    cluster_ips: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    ports: Vec<ServicePort>,
    #[serde(default, deserialize_with = "null_as_default")]
    selector: BTreeMap<String, String>,
}

/// `targetPort` is not read: endpoint slices carry the resolved numbers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServicePort {
    #[serde(default)]
    pub name: String,
    pub port: u16,
    #[serde(default)]
    pub protocol: Option<Protocol>,
}

impl Service {
    pub fn is_external_name(&self) -> bool {
        self.spec.kind == "ExternalName"
    }

    /// Cluster addresses; none for a headless Service ("None") or one that has none yet.
    pub fn cluster_ips(&self) -> Vec<IpAddr> {
        let listed = self.spec.cluster_ips.iter().map(String::as_str);
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in listed.chain(self.spec.cluster_ip.as_deref()).filter_map(|ip| ip.parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        ips
    }

    pub fn ports(&self) -> &[ServicePort] {
        &self.spec.ports
    }

    pub fn selector(&self) -> &BTreeMap<String, String> {
        &self.spec.selector
    }
}
