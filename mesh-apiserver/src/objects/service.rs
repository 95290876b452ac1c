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
    #[serde(default, deserialize_with = "null_as_default")]
    ip_families: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    session_affinity: String,
    #[serde(default, deserialize_with = "null_as_default")]
    session_affinity_config: AffinityConfig,
    #[serde(default)]
    internal_traffic_policy: Option<String>,
    #[serde(default)]
    traffic_distribution: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct AffinityConfig {
    #[serde(default, rename = "clientIP", deserialize_with = "null_as_default")]
    client_ip: ClientIp,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    #[serde(default)]
    timeout_seconds: Option<i32>,
}

/// `targetPort` is not read: endpoint slices carry the resolved numbers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    #[serde(default)]
    pub name: String,
    pub port: u16,
    #[serde(default)]
    pub protocol: Option<Protocol>,
    #[serde(default)]
    pub app_protocol: Option<String>,
}

impl Service {
    /// Whether it is what another one asks for, whatever the API server added. Where that one says nothing of traffic, the
    /// defaults do.
    pub fn asks_for(&self, wanted: &Self) -> bool {
        let policy = |service: &Self| service.internal_traffic_policy().unwrap_or("Cluster").to_owned();
        self.is_headless() == wanted.is_headless()
            && self.spec.ports.len() == wanted.spec.ports.len()
            && wanted.spec.ports.iter().all(|port| self.spec.ports.contains(port))
            && self.spec.selector == wanted.spec.selector
            && self.spec.ip_families == wanted.spec.ip_families
            && self.spec.session_affinity == wanted.spec.session_affinity
            && self.spec.session_affinity_config == wanted.spec.session_affinity_config
            && policy(self) == policy(wanted)
            && self.spec.traffic_distribution == wanted.spec.traffic_distribution
    }

    pub fn is_external_name(&self) -> bool {
        self.spec.kind == "ExternalName"
    }

    /// It is only its backends.
    pub fn is_headless(&self) -> bool {
        let listed = self.spec.cluster_ips.first().map(String::as_str);
        self.spec.cluster_ip.as_deref().or(listed) == Some("None")
    }

    /// `IPv4`, `IPv6`: as it says, else those of its addresses; `IPv4` where it has none.
    pub fn ip_families(&self) -> Vec<&str> {
        let said: Vec<&str> = self.spec.ip_families.iter().map(String::as_str).collect();
        if !said.is_empty() {
            return said;
        }
        let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let of_addresses: Vec<&str> = self.cluster_ips().into_iter().map(family).collect();
        if of_addresses.is_empty() { vec!["IPv4"] } else { of_addresses }
    }

    /// Empty where it is not said.
    pub fn session_affinity(&self) -> &str {
        &self.spec.session_affinity
    }

    /// Seconds.
    pub fn client_ip_timeout(&self) -> Option<i32> {
        self.spec.session_affinity_config.client_ip.timeout_seconds
    }

    pub fn internal_traffic_policy(&self) -> Option<&str> {
        self.spec.internal_traffic_policy.as_deref()
    }

    pub fn traffic_distribution(&self) -> Option<&str> {
        self.spec.traffic_distribution.as_deref()
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
