//! The merged view's objects: what an agent needs of its own and all joined clusters.
//!
//! An object has a key and a value; a delta is a list of upserts (key and value) and deletes (keys).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    BackendState, ClusterId, ClusterName, Frontend, LabelSet, NamedPort, Node, NodeName, Preference, SecurityIdentity,
    ServiceName,
};

/// Names one object of the view. Ordered by kind, in the order in which kinds must be written to the kernel:
/// clusters (their prefixes) before identities before nodes before addresses before services before backends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    Cluster(ClusterName),
    Identity(SecurityIdentity),
    Node { cluster: ClusterName, name: NodeName },
    Ip { cluster: ClusterName, prefix: IpNet },
    Service { cluster: ClusterName, service: ServiceName },
    Backend { cluster: ClusterName, service: ServiceName, address: IpAddr },
}

/// One object of the view with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    Cluster(Cluster),
    Identity(Identity),
    Node(Node),
    Ip(Ip),
    Service(Service),
    Backend(ServiceBackend),
}

/// A joined cluster (or the own one) and what it declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: ClusterName,
    pub id: ClusterId,
    /// The cluster that this view belongs to.
    pub is_local: bool,
    /// Prefixes of its pods: dropped until a path is up, never sent in clear, required of inner sources.
    pub pod_prefixes: Vec<IpNet>,
    pub encryption: Encryption,
}

/// How packets to a cluster's pods are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    #[default]
    Wireguard,
    /// In clear. Only when asked for by this name.
    None,
}

/// A label set's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub number: SecurityIdentity,
    pub labels: LabelSet,
}

/// An address or prefix and who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    pub cluster: ClusterName,
    pub prefix: IpNet,
    pub identity: SecurityIdentity,
    /// The node that hosts it: the tunnel's far end.
    pub host: Option<IpAddr>,
    pub namespace: Option<String>,
    pub pod: Option<String>,
}

/// A Service as one cluster declares it. The consuming cluster's own declaration decides which clusters are preferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub cluster: ClusterName,
    pub name: ServiceName,
    pub frontends: Vec<Frontend>,
    pub global: bool,
    pub shared: bool,
    #[serde(flatten)]
    pub prefers: Preference,
}

/// One backend of a Service, sent on its own so that a change costs its own bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBackend {
    pub cluster: ClusterName,
    pub service: ServiceName,
    pub address: IpAddr,
    pub ports: Vec<NamedPort>,
    pub state: BackendState,
    pub node: Option<NodeName>,
    pub zone: Option<String>,
    pub weight: u16,
}

impl Object {
    pub fn key(&self) -> Key {
        match self {
            Self::Cluster(c) => Key::Cluster(c.name.clone()),
            Self::Identity(i) => Key::Identity(i.number),
            Self::Node(n) => Key::Node { cluster: n.cluster.clone(), name: n.name.clone() },
            Self::Ip(i) => Key::Ip { cluster: i.cluster.clone(), prefix: i.prefix },
            Self::Service(s) => Key::Service { cluster: s.cluster.clone(), service: s.name.clone() },
            Self::Backend(b) => {
                Key::Backend { cluster: b.cluster.clone(), service: b.service.clone(), address: b.address }
            }
        }
    }
}

/// A change of the view from one revision to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delta {
    pub upserts: Vec<Object>,
    pub deletes: Vec<Key>,
    /// Revision of the own cluster's store after this change.
    pub revision: i64,
    /// Per source cluster: when the source wrote what this delta carries, in Unix nanoseconds of the source's clock.
    pub origin_times: BTreeMap<ClusterName, u64>,
}
