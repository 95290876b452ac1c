//! EndpointSlices: the backends of each Service, merged over its slices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_types::view::ServiceBackend;
use mesh_types::{BackendState, ClusterName, NamedPort, NodeName, Protocol, ServiceName};

use crate::objects::{EndpointSlice, Kind, ObjectKey};

#[derive(Default)]
pub(super) struct Endpoints {
    slices: BTreeMap<ObjectKey, EndpointSlice>,
    by_service: BTreeMap<ServiceName, BTreeSet<ObjectKey>>,
}

/// One address behind a Service. An address may be in several slices: while it moves from one to another, or when its
/// ports are not all ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merged {
    ports: BTreeSet<NamedPort>,
    pub(super) state: BackendState,
    node: Option<String>,
    zone: Option<String>,
    pub(super) hostname: Option<String>,
}

impl Endpoints {
    /// The Services whose backends may have changed: two when a slice was handed from one to another.
    pub(super) fn apply(&mut self, slice: EndpointSlice) -> BTreeSet<ServiceName> {
        let key = ObjectKey::new(Kind::EndpointSlice, &slice.metadata);
        let mut affected: BTreeSet<ServiceName> = self.delete(&key).into_iter().collect();
        if let Some(service) = slice.service().filter(|_| slice.has_addresses()) {
            self.by_service.entry(service.clone()).or_default().insert(key.clone());
            self.slices.insert(key, slice);
            affected.insert(service);
        }
        affected
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) -> Option<ServiceName> {
        let service = self.slices.remove(key)?.service()?;
        if let Some(keys) = self.by_service.get_mut(&service) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_service.remove(&service);
            }
        }
        Some(service)
    }

    /// The slices of a Service, by their own names.
    pub(super) fn slices(&self, service: &ServiceName) -> impl Iterator<Item = &EndpointSlice> {
        self.by_service.get(service).into_iter().flatten().filter_map(|key| self.slices.get(key))
    }

    pub(super) fn slice(&self, key: &ObjectKey) -> Option<&EndpointSlice> {
        self.slices.get(key)
    }

    pub(super) fn backends(&self, service: &ServiceName) -> BTreeMap<IpAddr, Merged> {
        let mut merged: BTreeMap<IpAddr, Merged> = BTreeMap::new();
        for slice in self.slices(service) {
            let ports: Vec<NamedPort> = slice.ports().into_iter().filter(|p| p.protocol != Protocol::Sctp).collect();
            for endpoint in &slice.endpoints {
                let Some(address) = endpoint.address() else { continue };
                let found = merged.entry(address).or_insert_with(|| Merged {
                    ports: BTreeSet::new(),
                    state: BackendState::NotReady,
                    node: None,
                    zone: None,
                    hostname: None,
                });
                found.ports.extend(ports.iter().cloned());
                found.state = found.state.min(endpoint.conditions.state());
                let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
                found.node = found.node.take().or_else(|| text(&endpoint.node_name));
                found.zone = found.zone.take().or_else(|| text(&endpoint.zone));
                found.hostname = found.hostname.take().or_else(|| text(&endpoint.hostname));
            }
        }
        merged
    }
}

impl Merged {
    pub(super) fn to_backend(&self, cluster: &ClusterName, service: &ServiceName, address: IpAddr) -> ServiceBackend {
        ServiceBackend {
            cluster: cluster.clone(),
            service: service.clone(),
            address,
            ports: self.ports.iter().cloned().collect(),
            state: self.state,
            node: self.node.clone().map(NodeName),
            zone: self.zone.clone(),
            weight: 1,
        }
    }
}
