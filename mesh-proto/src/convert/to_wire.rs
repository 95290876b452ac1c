//! `mesh-types` to messages. Cannot fail.

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use mesh_types::view::{Delta, Encryption, Key, Object};
use mesh_types::{Affinity, BackendState, ClusterName, Frontend, NamedPort, ServiceName, StaleAfter, WithdrawAfter};

use crate::v1;

/// 4 or 16 bytes in network order.
pub fn address_bytes(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(a) => Bytes::copy_from_slice(&a.octets()),
        IpAddr::V6(a) => Bytes::copy_from_slice(&a.octets()),
    }
}

pub fn prefix_message(prefix: &IpNet) -> v1::Prefix {
    v1::Prefix { address: address_bytes(prefix.addr()), length: u32::from(prefix.prefix_len()) }
}

fn ports(list: &[NamedPort]) -> Vec<v1::NamedPort> {
    list.iter()
        .map(|p| v1::NamedPort {
            name: p.name.clone(),
            protocol: u32::from(p.protocol.number()),
            port: u32::from(p.port),
        })
        .collect()
}

fn frontend(f: &Frontend) -> v1::Frontend {
    v1::Frontend { address: address_bytes(f.address), ports: ports(&f.ports) }
}

fn affinity(a: Affinity) -> v1::Affinity {
    match a {
        Affinity::None => v1::Affinity::None,
        Affinity::Local => v1::Affinity::Local,
        Affinity::Remote => v1::Affinity::Remote,
    }
}

fn cluster_weight((cluster, weight): (&ClusterName, &u16)) -> v1::ClusterWeight {
    v1::ClusterWeight { cluster: cluster.to_string(), weight: u32::from(*weight) }
}

impl From<Encryption> for v1::Encryption {
    fn from(e: Encryption) -> Self {
        match e {
            Encryption::Wireguard => Self::Wireguard,
            Encryption::None => Self::None,
        }
    }
}

impl From<&mesh_types::Node> for v1::Node {
    fn from(n: &mesh_types::Node) -> Self {
        Self {
            cluster: n.cluster.to_string(),
            cluster_id: n.cluster_id.get(),
            name: n.name.0.clone(),
            internal_ips: n.internal_ips.iter().map(|a| address_bytes(*a)).collect(),
            pod_cidrs: n.pod_cidrs.iter().map(prefix_message).collect(),
            wireguard_key: n.wireguard_key.map(|k| Bytes::copy_from_slice(&k)).unwrap_or_default(),
            wireguard_port: u32::from(n.wireguard_port),
            vxlan_port: u32::from(n.vxlan_port),
        }
    }
}

impl From<&Object> for v1::Object {
    fn from(object: &Object) -> Self {
        use v1::object::Kind;
        let kind = match object {
            Object::Cluster(c) => Kind::Cluster(v1::Cluster {
                name: c.name.to_string(),
                id: c.id.get(),
                is_local: c.is_local,
                pod_prefixes: c.pod_prefixes.iter().map(prefix_message).collect(),
                encryption: v1::Encryption::from(c.encryption).into(),
            }),
            Object::Identity(i) => {
                Kind::Identity(v1::Identity { number: i.number.0, labels: i.labels.to_sorted_list() })
            }
            Object::Node(n) => Kind::Node(n.into()),
            Object::Ip(i) => Kind::Ip(v1::Ip {
                cluster: i.cluster.to_string(),
                prefix: Some(prefix_message(&i.prefix)),
                identity: i.identity.0,
                host: i.host.map(address_bytes).unwrap_or_default(),
                namespace: i.namespace.clone().unwrap_or_default(),
                pod: i.pod.clone().unwrap_or_default(),
            }),
            Object::Service(s) => Kind::Service(v1::Service {
                cluster: s.cluster.to_string(),
                namespace: s.name.namespace.clone(),
                name: s.name.name.clone(),
                frontends: s.frontends.iter().map(frontend).collect(),
                global: s.global,
                shared: s.shared,
                affinity: affinity(s.prefers.affinity).into(),
                failover: s.prefers.failover.iter().map(ToString::to_string).collect(),
                weights: s.prefers.weights.iter().map(cluster_weight).collect(),
                spillover: s.prefers.spillover.map(u32::from).unwrap_or_default(),
                withdraw_after_seconds: match s.prefers.withdraw_after {
                    Some(WithdrawAfter::Seconds(seconds)) => seconds,
                    Some(WithdrawAfter::Never) | None => 0,
                },
                never_withdrawn: s.prefers.withdraw_after == Some(WithdrawAfter::Never),
                stale_after_seconds: match s.prefers.stale_after {
                    Some(StaleAfter::Seconds(seconds)) => seconds,
                    Some(StaleAfter::Never) | None => 0,
                },
                never_stale: s.prefers.stale_after == Some(StaleAfter::Never),
            }),
            Object::Backend(b) => Kind::Backend(v1::Backend {
                cluster: b.cluster.to_string(),
                namespace: b.service.namespace.clone(),
                service: b.service.name.clone(),
                address: address_bytes(b.address),
                ports: ports(&b.ports),
                state: match b.state {
                    BackendState::Active => v1::BackendState::Active,
                    BackendState::Terminating => v1::BackendState::Terminating,
                    BackendState::NotReady => v1::BackendState::NotReady,
                }
                .into(),
                node: b.node.as_ref().map(|n| n.0.clone()).unwrap_or_default(),
                zone: b.zone.clone().unwrap_or_default(),
                weight: u32::from(b.weight),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Key> for v1::Key {
    fn from(key: &Key) -> Self {
        use v1::key::Kind;
        let split = |s: &ServiceName| (s.namespace.clone(), s.name.clone());
        let kind = match key {
            Key::Cluster(name) => Kind::Cluster(name.to_string()),
            Key::Identity(number) => Kind::Identity(number.0),
            Key::Node { cluster, name } => {
                Kind::Node(v1::NodeKey { cluster: cluster.to_string(), name: name.0.clone() })
            }
            Key::Ip { cluster, prefix } => {
                Kind::Ip(v1::IpKey { cluster: cluster.to_string(), prefix: Some(prefix_message(prefix)) })
            }
            Key::Service { cluster, service } => {
                let (namespace, name) = split(service);
                Kind::Service(v1::ServiceKey { cluster: cluster.to_string(), namespace, name })
            }
            Key::Backend { cluster, service, address } => {
                let (namespace, service) = split(service);
                let address = address_bytes(*address);
                Kind::Backend(v1::BackendKey { cluster: cluster.to_string(), namespace, service, address })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Delta> for v1::Delta {
    fn from(delta: &Delta) -> Self {
        Self {
            upserts: delta.upserts.iter().map(Into::into).collect(),
            deletes: delta.deletes.iter().map(Into::into).collect(),
            revision: delta.revision,
            origin_times: delta
                .origin_times
                .iter()
                .map(|(cluster, nanos)| v1::OriginTime { cluster: cluster.to_string(), unix_nanos: *nanos })
                .collect(),
        }
    }
}
