//! What should be in the store on behalf of the objects, and what of it changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use federation::contract::{EndpointSliceValue, IpValue, NodeValue, ServiceExportValue, ServiceValue};
use mesh_types::exchange::{Scope, Terms};
use mesh_types::view::{Service, ServiceBackend};
use mesh_types::{LabelSet, NodeName, ServiceName};

/// Names one desired fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Node(NodeName),
    Ip(IpAddr),
    /// A Service of the own cluster, global or not: for the own agents.
    LocalService(ServiceName),
    LocalBackend(ServiceName, IpAddr),
    /// A Service as remote clusters see it.
    Service(ServiceName),
    /// Some of its backends as remote clusters see them. Named by the slice, which may be handed to another Service.
    EndpointSlice {
        namespace: String,
        slice: String,
    },
    /// A Service that is offered to the cluster set.
    ServiceExport(ServiceName),
    /// What a Namespace or a Service says about who may have what. `None` of a Namespace: there is no such object.
    Terms(Scope),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Node(Box<NodeValue>),
    Ip(Box<Address>),
    LocalService(Service),
    LocalBackend(ServiceBackend),
    Service(Box<ServiceValue>),
    EndpointSlice(Box<EndpointSliceValue>),
    /// Without a creation time where its object has none.
    ServiceExport(Box<ServiceExportValue>),
    Terms(Terms),
}

/// A pod's address. `value.id` is 0: the number comes from the allocator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub labels: LabelSet,
    pub value: IpValue,
}

/// `None`: the fact no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    pub value: Option<Value>,
}

#[derive(Default)]
pub(super) struct Desired {
    facts: BTreeMap<Key, Value>,
    changes: Vec<Change>,
}

impl Desired {
    pub(super) fn set(&mut self, key: Key, value: Option<Value>) {
        if self.facts.get(&key) == value.as_ref() {
            return;
        }
        match &value {
            Some(value) => self.facts.insert(key.clone(), value.clone()),
            None => self.facts.remove(&key),
        };
        self.changes.push(Change { key, value });
    }

    /// Replaces all backends of a Service.
    pub(super) fn set_backends(&mut self, service: &ServiceName, mut backends: BTreeMap<IpAddr, ServiceBackend>) {
        let first = Key::LocalBackend(service.clone(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let last = Key::LocalBackend(service.clone(), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)));
        let known: Vec<Key> = self.facts.range(first..=last).map(|(key, _)| key.clone()).collect();
        for key in known {
            let Key::LocalBackend(_, ip) = key else { continue };
            let value = backends.remove(&ip).map(Value::LocalBackend);
            self.set(key, value);
        }
        for (ip, backend) in backends {
            self.set(Key::LocalBackend(service.clone(), ip), Some(Value::LocalBackend(backend)));
        }
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}
