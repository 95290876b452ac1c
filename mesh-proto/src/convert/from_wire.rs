//! Messages to `mesh-types`. Every field is checked; an error names it.

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use mesh_types::view::{Cluster, Delta, Encryption, Identity, Ip, Key, Object, Service, ServiceBackend};
use mesh_types::{
    Affinity, BackendState, ClusterId, ClusterName, Frontend, LabelSet, NamedPort, Node, NodeName, Preference,
    Protocol, SecurityIdentity, ServiceName, StaleAfter, WithdrawAfter,
};

use super::Error;
use crate::v1;

/// Reads 4 or 16 bytes.
pub fn address(field: &'static str, bytes: &Bytes) -> Result<IpAddr, Error> {
    if let Ok(v4) = <[u8; 4]>::try_from(&bytes[..]) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from).map_err(|_wrong_size| Error::Address { field, len: bytes.len() })
}

/// Reads a prefix; host bits are cleared.
pub fn prefix(field: &'static str, message: Option<&v1::Prefix>) -> Result<IpNet, Error> {
    let message = message.ok_or(Error::Missing { field })?;
    let address = address(field, &message.address)?;
    u8::try_from(message.length)
        .ok()
        .and_then(|len| IpNet::new(address, len).ok())
        .map(|net| net.trunc())
        .ok_or(Error::Prefix { field, address, length: message.length })
}

fn optional_address(field: &'static str, bytes: &Bytes) -> Result<Option<IpAddr>, Error> {
    if bytes.is_empty() { Ok(None) } else { address(field, bytes).map(Some) }
}

fn prefixes(field: &'static str, list: &[v1::Prefix]) -> Result<Vec<IpNet>, Error> {
    list.iter().map(|p| prefix(field, Some(p))).collect()
}

fn cluster_name(field: &'static str, name: &str) -> Result<ClusterName, Error> {
    ClusterName::new(name).map_err(|e| Error::value(field, &name, &e))
}

fn cluster_id(field: &'static str, id: u32) -> Result<ClusterId, Error> {
    ClusterId::new(id).map_err(|e| Error::value(field, &id, &e))
}

fn port(field: &'static str, port: u32) -> Result<u16, Error> {
    u16::try_from(port).map_err(|e| Error::value(field, &port, &e))
}

fn named_ports(field: &'static str, list: &[v1::NamedPort]) -> Result<Vec<NamedPort>, Error> {
    list.iter()
        .map(|p| {
            let protocol = match p.protocol {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                132 => Protocol::Sctp,
                other => return Err(Error::value(field, &other, &"protocol must be 6, 17 or 132")),
            };
            Ok(NamedPort { name: p.name.clone(), protocol, port: port(field, p.port)? })
        })
        .collect()
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

impl TryFrom<i32> for WireEncryption {
    type Error = Error;
    fn try_from(value: i32) -> Result<Self, Error> {
        match v1::Encryption::try_from(value) {
            Ok(v1::Encryption::Wireguard) => Ok(Self(Encryption::Wireguard)),
            Ok(v1::Encryption::None) => Ok(Self(Encryption::None)),
            Err(e) => Err(Error::value("encryption", &value, &e)),
        }
    }
}

struct WireEncryption(Encryption);

/// How packets are protected, by its number on the wire.
pub fn encryption(value: i32) -> Result<Encryption, Error> {
    WireEncryption::try_from(value).map(|wire| wire.0)
}

impl TryFrom<v1::Node> for Node {
    type Error = Error;
    fn try_from(n: v1::Node) -> Result<Self, Error> {
        let key = match n.wireguard_key.len() {
            0 => None,
            len => Some(
                <[u8; 32]>::try_from(&n.wireguard_key[..])
                    .map_err(|e| Error::value("node.wireguard_key", &format!("{len} bytes"), &e))?,
            ),
        };
        Ok(Self {
            cluster: cluster_name("node.cluster", &n.cluster)?,
            cluster_id: cluster_id("node.cluster_id", n.cluster_id)?,
            name: NodeName(n.name),
            internal_ips: n.internal_ips.iter().map(|a| address("node.internal_ips", a)).collect::<Result<_, _>>()?,
            pod_cidrs: prefixes("node.pod_cidrs", &n.pod_cidrs)?,
            wireguard_key: key,
            wireguard_port: port("node.wireguard_port", n.wireguard_port)?,
            vxlan_port: port("node.vxlan_port", n.vxlan_port)?,
        })
    }
}

fn cluster_weight(w: &v1::ClusterWeight) -> Result<(ClusterName, u16), Error> {
    let weight = u16::try_from(w.weight).map_err(|e| Error::value("service.weights", &w.weight, &e))?;
    Ok((cluster_name("service.weights", &w.cluster)?, weight))
}

fn service(s: v1::Service) -> Result<Service, Error> {
    let affinity = match v1::Affinity::try_from(s.affinity) {
        Ok(v1::Affinity::None) => Affinity::None,
        Ok(v1::Affinity::Local) => Affinity::Local,
        Ok(v1::Affinity::Remote) => Affinity::Remote,
        Err(e) => return Err(Error::value("service.affinity", &s.affinity, &e)),
    };
    let spillover = match u8::try_from(s.spillover) {
        Ok(0) => None,
        Ok(percent) if percent <= 100 => Some(percent),
        _ => return Err(Error::value("service.spillover", &s.spillover, &"more than 100 per cent")),
    };
    let frontends = s
        .frontends
        .iter()
        .map(|f| {
            Ok(Frontend {
                address: address("frontend.address", &f.address)?,
                ports: named_ports("frontend.ports", &f.ports)?,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(Service {
        cluster: cluster_name("service.cluster", &s.cluster)?,
        name: ServiceName::new(s.namespace, s.name),
        frontends,
        global: s.global,
        shared: s.shared,
        prefers: Preference {
            affinity,
            failover: s.failover.iter().map(|c| cluster_name("service.failover", c)).collect::<Result<_, _>>()?,
            weights: s.weights.iter().map(cluster_weight).collect::<Result<_, _>>()?,
            spillover,
            withdraw_after: match (s.never_withdrawn, s.withdraw_after_seconds) {
                (true, _) => Some(WithdrawAfter::Never),
                (false, 0) => None,
                (false, seconds) => Some(WithdrawAfter::Seconds(seconds)),
            },
            stale_after: match (s.never_stale, s.stale_after_seconds) {
                (true, _) => Some(StaleAfter::Never),
                (false, 0) => None,
                (false, seconds) => Some(StaleAfter::Seconds(seconds)),
            },
        },
    })
}

fn backend(b: v1::Backend) -> Result<ServiceBackend, Error> {
    let state = match v1::BackendState::try_from(b.state) {
        Ok(v1::BackendState::Active) => BackendState::Active,
        Ok(v1::BackendState::Terminating) => BackendState::Terminating,
        Ok(v1::BackendState::NotReady) => BackendState::NotReady,
        Err(e) => return Err(Error::value("backend.state", &b.state, &e)),
    };
    Ok(ServiceBackend {
        cluster: cluster_name("backend.cluster", &b.cluster)?,
        service: ServiceName::new(b.namespace, b.service),
        address: address("backend.address", &b.address)?,
        ports: named_ports("backend.ports", &b.ports)?,
        state,
        node: text(&b.node).map(NodeName),
        zone: text(&b.zone),
        weight: port("backend.weight", b.weight)?,
    })
}

fn labels(text: &str) -> Result<LabelSet, Error> {
    LabelSet::parse_sorted_list(text).map_err(|e| Error::value("identity.labels", &text, &e))
}

impl TryFrom<v1::Object> for Object {
    type Error = Error;
    fn try_from(object: v1::Object) -> Result<Self, Error> {
        use v1::object::Kind;
        Ok(match object.kind.ok_or(Error::Missing { field: "object" })? {
            Kind::Cluster(c) => Self::Cluster(Cluster {
                name: cluster_name("cluster.name", &c.name)?,
                id: cluster_id("cluster.id", c.id)?,
                is_local: c.is_local,
                pod_prefixes: prefixes("cluster.pod_prefixes", &c.pod_prefixes)?,
                encryption: WireEncryption::try_from(c.encryption)?.0,
            }),
            Kind::Identity(i) => {
                Self::Identity(Identity { number: SecurityIdentity(i.number), labels: labels(&i.labels)? })
            }
            Kind::Node(n) => Self::Node(n.try_into()?),
            Kind::Ip(i) => Self::Ip(Ip {
                cluster: cluster_name("ip.cluster", &i.cluster)?,
                prefix: prefix("ip.prefix", i.prefix.as_ref())?,
                identity: SecurityIdentity(i.identity),
                host: optional_address("ip.host", &i.host)?,
                namespace: text(&i.namespace),
                pod: text(&i.pod),
            }),
            Kind::Service(s) => Self::Service(service(s)?),
            Kind::Backend(b) => Self::Backend(backend(b)?),
        })
    }
}

impl TryFrom<v1::Key> for Key {
    type Error = Error;
    fn try_from(key: v1::Key) -> Result<Self, Error> {
        use v1::key::Kind;
        Ok(match key.kind.ok_or(Error::Missing { field: "key" })? {
            Kind::Cluster(name) => Self::Cluster(cluster_name("key.cluster", &name)?),
            Kind::Identity(number) => Self::Identity(SecurityIdentity(number)),
            Kind::Node(n) => {
                Self::Node { cluster: cluster_name("key.node.cluster", &n.cluster)?, name: NodeName(n.name) }
            }
            Kind::Ip(i) => Self::Ip {
                cluster: cluster_name("key.ip.cluster", &i.cluster)?,
                prefix: prefix("key.ip.prefix", i.prefix.as_ref())?,
            },
            Kind::Service(s) => Self::Service {
                cluster: cluster_name("key.service.cluster", &s.cluster)?,
                service: ServiceName::new(s.namespace, s.name),
            },
            Kind::Backend(b) => Self::Backend {
                cluster: cluster_name("key.backend.cluster", &b.cluster)?,
                service: ServiceName::new(b.namespace, b.service),
                address: address("key.backend.address", &b.address)?,
            },
        })
    }
}

impl TryFrom<v1::Delta> for Delta {
    type Error = Error;
    fn try_from(delta: v1::Delta) -> Result<Self, Error> {
        Ok(Self {
            upserts: delta.upserts.into_iter().map(Object::try_from).collect::<Result<_, _>>()?,
            deletes: delta.deletes.into_iter().map(Key::try_from).collect::<Result<_, _>>()?,
            revision: delta.revision,
            origin_times: delta
                .origin_times
                .into_iter()
                .map(|o| Ok((cluster_name("origin_time.cluster", &o.cluster)?, o.unix_nanos)))
                .collect::<Result<_, Error>>()?,
        })
    }
}
