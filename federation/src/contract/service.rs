//! A global service's value: all frontends and ready backends in one object (Cilium `pkg/clustermesh/store/store.go`).
//!
//! What clusters are preferred is not part of it: the settings of the consuming cluster's Service count. Only ready backends are exported.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_types::view::{Service, ServiceBackend};
use mesh_types::{BackendState, ClusterId, ClusterName, Frontend, NamedPort, Preference, Protocol, ServiceName};
use serde::{Deserialize, Serialize};

use super::Error;
use super::lenient::{null_is_default, object};
use super::node::parse_ip;

/// Port name to port.
pub type Ports = BTreeMap<String, L4Port>;

/// `cilium/state/services/v1/<cluster>/<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceValue {
    #[serde(deserialize_with = "null_is_default")]
    pub cluster: String,
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: String,
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub frontends: BTreeMap<String, Ports>,
    #[serde(deserialize_with = "null_is_default")]
    pub backends: BTreeMap<String, Ports>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub hostnames: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub zones: BTreeMap<String, Zone>,
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub selector: BTreeMap<String, String>,
    #[serde(rename = "includeExternal", deserialize_with = "null_is_default")]
    pub include_external: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub shared: bool,
    #[serde(rename = "clusterID", deserialize_with = "null_is_default")]
    pub cluster_id: u32,
}

/// A port and its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct L4Port {
    #[serde(rename = "Protocol")]
    pub protocol: Protocol,
    #[serde(rename = "Port")]
    pub port: u16,
}

/// A backend's zone, and the zones it should serve.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Zone {
    #[serde(deserialize_with = "null_is_default")]
    pub zone: String,
    #[serde(rename = "forZones", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub for_zones: Vec<ForZone>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ForZone {
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

impl ServiceValue {
    /// What the exporter writes. Labels, selector and hostnames, which the mesh has no word for, are the caller's to add.
    pub fn from_service<'a>(
        service: &Service,
        id: ClusterId,
        backends: impl IntoIterator<Item = &'a ServiceBackend>,
    ) -> Self {
        let mut value = Self {
            cluster: service.cluster.to_string(),
            namespace: service.name.namespace.clone(),
            name: service.name.name.clone(),
            frontends: service.frontends.iter().map(|f| (f.address.to_string(), ports(&f.ports))).collect(),
            include_external: service.global,
            shared: service.shared,
            cluster_id: id.get(),
            ..Self::default()
        };
        for backend in backends.into_iter().filter(|b| b.state == BackendState::Active) {
            let address = backend.address.to_string();
            if let Some(zone) = &backend.zone {
                value.zones.insert(address.clone(), Zone { zone: zone.clone(), for_zones: Vec::new() });
            }
            value.backends.insert(address, ports(&backend.ports));
        }
        value
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps of strings always encode")
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        object("service", value)
    }

    pub fn service_name(&self) -> ServiceName {
        ServiceName::new(self.namespace.as_str(), self.name.as_str())
    }

    pub fn frontend_addresses(&self) -> Result<Vec<IpAddr>, Error> {
        self.frontends.keys().map(|ip| parse_ip("frontends", ip)).collect()
    }

    pub fn backend_addresses(&self) -> Result<Vec<IpAddr>, Error> {
        self.backends.keys().map(|ip| parse_ip("backends", ip)).collect()
    }

    /// The mesh's words for it. All backends are active: others are not exported.
    pub fn to_service(&self) -> Result<(Service, Vec<ServiceBackend>), Error> {
        let cluster = ClusterName::new(self.cluster.as_str())
            .map_err(|_named_below| Error::field("cluster", &self.cluster, "a cluster name"))?;
        let name = self.service_name();
        let frontends = self
            .frontends
            .iter()
            .map(|(ip, ports)| Ok(Frontend { address: parse_ip("frontends", ip)?, ports: named(ports) }))
            .collect::<Result<_, Error>>()?;
        let backends = self
            .backends
            .iter()
            .map(|(ip, ports)| {
                Ok(ServiceBackend {
                    cluster: cluster.clone(),
                    service: name.clone(),
                    address: parse_ip("backends", ip)?,
                    ports: named(ports),
                    state: BackendState::Active,
                    node: None,
                    zone: self.zones.get(ip).map(|z| z.zone.clone()).filter(|z| !z.is_empty()),
                    weight: 1,
                })
            })
            .collect::<Result<_, Error>>()?;
        let service = Service {
            cluster,
            name,
            frontends,
            global: self.include_external,
            shared: self.shared,
            prefers: Preference::default(),
        };
        Ok((service, backends))
    }
}

fn ports(list: &[NamedPort]) -> Ports {
    list.iter().map(|p| (p.name.clone(), L4Port { protocol: p.protocol, port: p.port })).collect()
}

fn named(ports: &Ports) -> Vec<NamedPort> {
    ports.iter().map(|(name, p)| NamedPort { name: name.clone(), protocol: p.protocol, port: p.port }).collect()
}
