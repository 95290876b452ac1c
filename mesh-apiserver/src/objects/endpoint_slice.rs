//! EndpointSlice: the backends of a Service, with their conditions and resolved port numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use federation::contract::endpoint_slice::{
    Conditions as ExportedConditions, Endpoint as Exported, EndpointPort as ExportedPort, EndpointSliceValue, ForZone,
    Hints as ExportedHints, SERVICE_NAME,
};
use mesh_types::{BackendState, ClusterId, ClusterName, NamedPort, Protocol, ServiceName};
use serde::Deserialize;

use super::Meta;
use super::meta::null_as_default;
use crate::mcs::names::SOURCE_CLUSTER;

const SCTP: &str = "SCTP";

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    pub metadata: Meta,
    #[serde(default)]
    address_type: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "null_as_default")]
    ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    #[serde(default, deserialize_with = "null_as_default")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub conditions: Conditions,
    #[serde(default)]
    pub hostname: Option<String>,
    #[serde(default)]
    pub node_name: Option<String>,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    hints: Hints,
}

/// Whose clients should use an endpoint, by zone (topology-aware routing).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    #[serde(default, deserialize_with = "null_as_default")]
    for_zones: Vec<Zone>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Zone {
    name: String,
}

/// Absent conditions mean, as Kubernetes defines them: ready and not terminating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Conditions {
    #[serde(default)]
    pub ready: Option<bool>,
    #[serde(default)]
    pub serving: Option<bool>,
    #[serde(default)]
    pub terminating: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "port")]
    number: Option<u16>,
    #[serde(default)]
    protocol: Option<Protocol>,
    #[serde(default)]
    app_protocol: Option<String>,
}

impl EndpointSlice {
    /// The Service it belongs to; `None` for a slice without the label, which Kubernetes leaves alone as well.
    pub fn service(&self) -> Option<ServiceName> {
        let name = self.metadata.labels.get(SERVICE_NAME)?;
        Some(ServiceName::new(self.metadata.namespace.clone(), name.clone()))
    }

    /// The cluster that its backends are in, where it is a slice of the MCS API.
    pub fn source_cluster(&self) -> Option<&str> {
        self.metadata.labels.get(SOURCE_CLUSTER).map(String::as_str)
    }

    /// Whether both have the same backends with the same ports.
    pub fn has_backends_of(&self, other: &Self) -> bool {
        self.address_type == other.address_type && self.endpoints == other.endpoints && self.ports == other.ports
    }

    /// False for FQDN slices: they hold names, not addresses.
    pub fn has_addresses(&self) -> bool {
        self.address_type != "FQDN"
    }

    /// The slice as remote clusters see it: `None` for one of another family than the datapath of this version carries.
    pub fn exported(&self, cluster: &ClusterName, id: ClusterId) -> Option<EndpointSliceValue> {
        let mut value = self.value(cluster, id)?;
        value.ports.retain(|port| port.protocol.as_deref() != Some(SCTP));
        Some(value)
    }

    /// The same with what the datapath does not carry.
    pub fn value(&self, cluster: &ClusterName, id: ClusterId) -> Option<EndpointSliceValue> {
        let service = self.service().filter(|_| self.address_type == "IPv4")?;
        let endpoints = self.endpoints.iter().map(|endpoint| Exported {
            addresses: endpoint.addresses.clone(),
            conditions: ExportedConditions {
                ready: endpoint.conditions.ready,
                serving: endpoint.conditions.serving,
                terminating: endpoint.conditions.terminating,
            },
            hostname: endpoint.hostname.clone(),
            node_name: endpoint.node_name.clone(),
            zone: endpoint.zone.clone(),
            hints: endpoint.hints.exported(),
        });
        let ports = self.ports.iter().map(|port| ExportedPort {
            name: Some(port.name.clone().unwrap_or_default()),
            protocol: Some(port.protocol.unwrap_or(Protocol::Tcp).to_string()),
            port: port.number.map(i32::from),
            app_protocol: port.app_protocol.clone(),
        });
        Some(EndpointSliceValue {
            cluster: cluster.to_string(),
            cluster_id: id.get(),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
            labels: BTreeMap::from([(SERVICE_NAME.to_owned(), service.name)]),
            annotations: BTreeMap::new(),
            address_type: self.address_type.clone(),
            endpoints: endpoints.collect(),
            ports: ports.collect(),
        })
    }

    pub fn ports(&self) -> Vec<NamedPort> {
        self.ports
            .iter()
            .filter_map(|p| {
                let name = p.name.clone().unwrap_or_default();
                Some(NamedPort { name, protocol: p.protocol.unwrap_or(Protocol::Tcp), port: p.number? })
            })
            .collect()
    }
}

impl Hints {
    fn exported(&self) -> Option<ExportedHints> {
        let for_zones: Vec<ForZone> = self.for_zones.iter().map(|zone| ForZone { name: zone.name.clone() }).collect();
        (!for_zones.is_empty()).then_some(ExportedHints { for_zones })
    }
}

impl Endpoint {
    /// The first address is the endpoint's; Kubernetes gives further ones no meaning.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }
}

impl Conditions {
    pub fn state(self) -> BackendState {
        BackendState::of_conditions(self.ready, self.serving, self.terminating)
    }
}
