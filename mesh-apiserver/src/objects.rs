//! The Kubernetes objects that the mesh reads, with only the fields in use.
//!
//! Owns the models and nothing else: no validation beyond types, no I/O. Fields that are not listed are ignored, absent
//! ones take Kubernetes' defaults, so that manifests of any version are read.

mod condition;
mod endpoint_slice;
mod meta;
mod namespace;
mod node;
mod pod;
mod service;
mod service_export;
mod service_import;

use std::fmt;

use mesh_types::ServiceName;

pub use condition::Condition;
pub use endpoint_slice::{Conditions, Endpoint, EndpointSlice};
pub use meta::Meta;
pub use namespace::Namespace;
pub use node::{Node, NodeAddress};
pub use pod::{ContainerPort, Pod};
pub use service::{Service, ServicePort};
pub use service_export::ServiceExport;
pub use service_import::ServiceImport;

/// Kinds that the mesh reads. Every other kind is counted and left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    ServiceExport,
    /// Only of an API server, where this server makes them.
    ServiceImport,
}

impl Kind {
    pub fn parse(kind: &str) -> Option<Self> {
        Some(match kind {
            "Namespace" => Self::Namespace,
            "Node" => Self::Node,
            "Pod" => Self::Pod,
            "Service" => Self::Service,
            "EndpointSlice" => Self::EndpointSlice,
            "ServiceExport" => Self::ServiceExport,
            _ => return None,
        })
    }

    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Names one object of one cluster. `namespace` is empty for kinds that have none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(kind: Kind, meta: &Meta) -> Self {
        let namespace = if kind.is_namespaced() { meta.namespace.clone() } else { String::new() };
        Self { kind, namespace, name: meta.name.clone() }
    }

    pub fn service(name: &ServiceName) -> Self {
        Self { kind: Kind::Service, namespace: name.namespace.clone(), name: name.name.clone() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// One object, as a source delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Namespace(Namespace),
    Node(Node),
    Pod(Pod),
    Service(Service),
    EndpointSlice(EndpointSlice),
    ServiceExport(ServiceExport),
    ServiceImport(ServiceImport),
}

impl Object {
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Namespace(o) => ObjectKey::new(Kind::Namespace, &o.metadata),
            Self::Node(o) => ObjectKey::new(Kind::Node, &o.metadata),
            Self::Pod(o) => ObjectKey::new(Kind::Pod, &o.metadata),
            Self::Service(o) => ObjectKey::new(Kind::Service, &o.metadata),
            Self::EndpointSlice(o) => ObjectKey::new(Kind::EndpointSlice, &o.metadata),
            Self::ServiceExport(o) => ObjectKey::new(Kind::ServiceExport, &o.metadata),
            Self::ServiceImport(o) => ObjectKey::new(Kind::ServiceImport, &o.metadata),
        }
    }
}
