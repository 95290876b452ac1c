//! Services: what their annotations ask of the mesh, and their two forms (for the own agents, for remote clusters).

use std::collections::BTreeMap;
use std::net::IpAddr;

use federation::contract::ServiceValue;
use mesh_types::view::ServiceBackend;
use mesh_types::{BackendState, ClusterName, Frontend, GlobalSettings, NamedPort, Protocol, ServiceName, view};

use super::Settings;
use super::endpoints::Merged;
use crate::objects::{ObjectKey, Service};

#[derive(Default)]
pub(super) struct Services {
    services: BTreeMap<ServiceName, Read>,
    /// Why a part of a Service was left out.
    errors: BTreeMap<ServiceName, String>,
}

struct Read {
    service: Service,
    settings: GlobalSettings,
}

impl Services {
    pub(super) fn apply(&mut self, service: Service) -> ServiceName {
        let name = ServiceName::new(service.metadata.namespace.clone(), service.metadata.name.clone());
        // An annotation that is not understood switches all of them off: a guess would send traffic astray.
        let (settings, error) = match GlobalSettings::from_annotations(&service.metadata.annotations) {
            Ok(settings) => (settings, None),
            Err(error) => (GlobalSettings::default(), Some(format!("{error}; until then the Service is not global"))),
        };
        let sctp = service.ports().iter().any(|p| p.protocol == Some(Protocol::Sctp));
        let error =
            error.or_else(|| sctp.then(|| "SCTP ports are left out: the datapath carries TCP and UDP".to_owned()));
        self.services.insert(name.clone(), Read { service, settings });
        match error {
            Some(error) => self.errors.insert(name.clone(), error),
            None => self.errors.remove(&name),
        };
        name
    }

    pub(super) fn delete(&mut self, name: &ServiceName) {
        self.services.remove(name);
        self.errors.remove(name);
    }

    /// The Service as it was written.
    pub(super) fn object(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name).map(|read| &read.service)
    }

    /// The Service for the own cluster's agents. An ExternalName has nothing to balance.
    pub(super) fn declared(&self, name: &ServiceName, cluster: &ClusterName) -> Option<view::Service> {
        let read = self.services.get(name).filter(|r| !r.service.is_external_name())?;
        let ports: Vec<NamedPort> = read
            .service
            .ports()
            .iter()
            .map(|p| NamedPort { name: p.name.clone(), protocol: p.protocol.unwrap_or(Protocol::Tcp), port: p.port })
            .filter(|p| p.protocol != Protocol::Sctp)
            .collect();
        let frontend = |address| Frontend { address, ports: ports.clone() };
        Some(view::Service {
            cluster: cluster.clone(),
            name: name.clone(),
            frontends: read.service.cluster_ips().into_iter().map(frontend).collect(),
            global: read.settings.global,
            shared: read.settings.shared,
            prefers: read.settings.prefers.clone(),
        })
    }

    /// Cilium's legacy object, of the family that the datapath carries: one IPv6 address would have others turn all of it
    /// away.
    pub(super) fn exported<'a>(
        &self,
        service: &view::Service,
        settings: &Settings,
        backends: impl Iterator<Item = &'a ServiceBackend>,
        merged: &BTreeMap<IpAddr, Merged>,
    ) -> ServiceValue {
        let mut service = service.clone();
        service.frontends.retain(|frontend| frontend.address.is_ipv4());
        let mut value = ServiceValue::from_service(&service, settings.cluster_id, backends);
        if let Some(read) = self.services.get(&service.name) {
            value.labels.clone_from(&read.service.metadata.labels);
            value.selector.clone_from(read.service.selector());
        }
        let ready = merged.iter().filter(|(ip, b)| ip.is_ipv4() && b.state == BackendState::Active);
        value.hostnames = ready.filter_map(|(ip, b)| Some((ip.to_string(), b.hostname.clone()?))).collect();
        value
    }

    pub(super) fn errors(&self) -> BTreeMap<ObjectKey, String> {
        self.errors.iter().map(|(name, error)| (ObjectKey::service(name), error.clone())).collect()
    }
}
