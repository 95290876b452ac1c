//! Slices in the mesh's words: backends of a Service, and back.
//!
//! The rules are Kubernetes' own, as for the slices of the own cluster: absent conditions mean ready, an endpoint's first
//! address counts, and an endpoint that is not ready is a backend as well, in its state.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_types::view::ServiceBackend;
use mesh_types::{BackendState, ClusterId, ClusterName, NamedPort, NodeName, Protocol, ServiceName};

use super::super::Error;
use super::super::node::parse_ip;
use super::{Conditions, Endpoint, EndpointPort, EndpointSliceValue, MAX_NAME, SERVICE_NAME};

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

/// Whose slice it is and which one.
#[derive(Debug, Clone, Copy)]
pub struct SliceName<'a> {
    pub cluster: &'a ClusterName,
    pub cluster_id: ClusterId,
    pub service: &'a ServiceName,
    /// Its own name, unique in the service's namespace.
    pub slice: &'a str,
}

impl Conditions {
    pub fn state(self) -> BackendState {
        BackendState::of_conditions(self.ready, self.serving, self.terminating)
    }
}

impl From<BackendState> for Conditions {
    fn from(state: BackendState) -> Self {
        let (ready, serving, terminating) = match state {
            BackendState::Active => (true, true, false),
            BackendState::Terminating => (false, true, true),
            BackendState::NotReady => (false, false, false),
        };
        Self { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }
    }
}

impl EndpointSliceValue {
    /// The slice that says these backends. They share an address family and the ports, as those of a slice do: a backend
    /// that does not is an error, since a slice cannot say it. Without backends the slice is an empty one of IPv4.
    pub fn from_backends(name: SliceName<'_>, backends: &[ServiceBackend]) -> Result<Self, Error> {
        let first = backends.first();
        let is_ipv6 = first.is_some_and(|backend| backend.address.is_ipv6());
        let ports = first.map(|backend| backend.ports.as_slice()).unwrap_or_default();
        for backend in backends {
            if backend.address.is_ipv6() != is_ipv6 {
                return Err(Error::field("addresses", &backend.address, "of the address family of the slice"));
            }
            if backend.ports != ports {
                return Err(Error::field("ports", &backend.address, "a backend with the ports of the slice"));
            }
        }
        Ok(Self {
            cluster: name.cluster.to_string(),
            cluster_id: name.cluster_id.get(),
            namespace: name.service.namespace.clone(),
            name: name.slice.to_owned(),
            labels: BTreeMap::from([(SERVICE_NAME.to_owned(), name.service.name.clone())]),
            annotations: BTreeMap::new(),
            address_type: if is_ipv6 { IPV6 } else { IPV4 }.to_owned(),
            endpoints: backends.iter().map(Endpoint::from).collect(),
            ports: ports.iter().map(EndpointPort::from).collect(),
        })
    }

    /// Every address in it, also those that have no meaning here: other readers of the store may use them.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let is_ipv6 = self.is_ipv6()?;
        let texts = self.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        texts.map(|text| address_of(text, is_ipv6)).collect()
    }

    /// The ports with a number. One without means "all ports", which no backend can say.
    pub fn named_ports(&self) -> Result<Vec<NamedPort>, Error> {
        self.ports.iter().filter_map(|port| port.named().transpose()).collect()
    }

    /// The backends of the Service, one for each address. One that stands there twice is as good as the better of the two.
    pub fn to_backends(&self) -> Result<Vec<ServiceBackend>, Error> {
        let cluster = ClusterName::new(self.cluster.as_str())
            .map_err(|_named_below| Error::field("cluster", &self.cluster, "a cluster name"))?;
        let service = self.service().ok_or_else(|| {
            let label = self.labels.get(SERVICE_NAME).map(String::as_str).unwrap_or_default();
            Error::field(SERVICE_NAME, label, "the name of a Service")
        })?;
        let is_ipv6 = self.is_ipv6()?;
        let ports = self.named_ports()?;
        let said = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let mut backends: BTreeMap<IpAddr, ServiceBackend> = BTreeMap::new();
        for endpoint in &self.endpoints {
            let Some(text) = endpoint.addresses.first() else { continue };
            let address = address_of(text, is_ipv6)?;
            let state = endpoint.conditions.state();
            let backend = backends.entry(address).or_insert_with(|| ServiceBackend {
                cluster: cluster.clone(),
                service: service.clone(),
                address,
                ports: ports.clone(),
                state,
                node: None,
                zone: None,
                weight: 1,
            });
            backend.state = backend.state.min(state);
            backend.node = backend.node.take().or_else(|| said(&endpoint.node_name).map(NodeName));
            backend.zone = backend.zone.take().or_else(|| said(&endpoint.zone));
        }
        Ok(backends.into_values().collect())
    }

    fn is_ipv6(&self) -> Result<bool, Error> {
        match self.address_type.as_str() {
            IPV4 => Ok(false),
            IPV6 => Ok(true),
            other => Err(Error::field("addressType", other, "IPv4 or IPv6")),
        }
    }
}

/// An address of the slice's family, without an IPv6 zone.
fn address_of(text: &str, is_ipv6: bool) -> Result<IpAddr, Error> {
    let address = parse_ip("addresses", text)?;
    if address.is_ipv6() == is_ipv6 {
        Ok(address)
    } else {
        Err(Error::field("addresses", text, "of the address family of the slice"))
    }
}

impl From<&ServiceBackend> for Endpoint {
    fn from(backend: &ServiceBackend) -> Self {
        Self {
            addresses: vec![backend.address.to_string()],
            conditions: backend.state.into(),
            hostname: None,
            node_name: backend.node.as_ref().map(|node| node.0.clone()),
            zone: backend.zone.clone(),
            hints: None,
        }
    }
}

impl EndpointPort {
    fn named(&self) -> Result<Option<NamedPort>, Error> {
        let Some(number) = self.port else { return Ok(None) };
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| Error::field("ports", &number, "a port number, 1 to 65535"))?;
        let protocol = match &self.protocol {
            None => Protocol::Tcp,
            Some(word) => {
                word.parse().map_err(|_named_below| Error::field("ports", word, "a protocol: TCP, UDP or SCTP"))?
            }
        };
        let name = self.name.clone().unwrap_or_default();
        if name.len() > MAX_NAME {
            return Err(Error::field("ports", &name, "a port name of at most 63 bytes"));
        }
        Ok(Some(NamedPort { name, protocol, port }))
    }
}

impl From<&NamedPort> for EndpointPort {
    fn from(port: &NamedPort) -> Self {
        Self {
            name: Some(port.name.clone()),
            protocol: Some(port.protocol.to_string()),
            port: Some(port.port.into()),
            app_protocol: None,
        }
    }
}
