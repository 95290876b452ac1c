//! Conversions between the wire's messages and the words of `mesh-types`. Pure; a bad field is named.

mod from_wire;
mod to_wire;

use std::fmt;
use std::net::IpAddr;

pub use from_wire::{address, encryption, prefix};
pub use to_wire::{address_bytes, prefix_message};

/// A message that does not say what its type promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{field}: an address of {len} bytes (want 4 or 16)")]
    Address { field: &'static str, len: usize },
    #[error("{field}: prefix length {length} is too long for {address}")]
    Prefix { field: &'static str, address: IpAddr, length: u32 },
    #[error("{field}: {value:?} is not valid: {why}")]
    Value { field: &'static str, value: String, why: String },
    #[error("{field} is missing")]
    Missing { field: &'static str },
}

impl Error {
    fn value(field: &'static str, value: &dyn fmt::Display, why: &dyn fmt::Display) -> Self {
        Self::Value { field, value: value.to_string(), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh_types::view::{Cluster, Delta, Encryption, Identity, Ip, Key, Object, Service, ServiceBackend};
    use mesh_types::{
        Affinity, BackendState, ClusterId, ClusterName, Frontend, Label, NamedPort, Node, NodeName, Preference,
        Protocol, SecurityIdentity, ServiceName, StaleAfter, WithdrawAfter,
    };

    use crate::v1;

    fn all_kinds() -> Vec<Object> {
        let cluster = ClusterName::new("east").unwrap();
        let service = ServiceName::new("shop", "cart");
        let ports = vec![NamedPort { name: "grpc".into(), protocol: Protocol::Tcp, port: 7070 }];
        vec![
            Object::Cluster(Cluster {
                name: cluster.clone(),
                id: ClusterId::new(7).unwrap(),
                is_local: false,
                pod_prefixes: vec!["10.71.0.0/16".parse().unwrap()],
                encryption: Encryption::Wireguard,
            }),
            Object::Identity(Identity {
                number: SecurityIdentity(459_953),
                labels: [Label::k8s("app", "cart")].into_iter().collect(),
            }),
            Object::Node(Node {
                cluster: cluster.clone(),
                cluster_id: ClusterId::new(7).unwrap(),
                name: NodeName("w1".into()),
                internal_ips: vec!["192.0.2.17".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                pod_cidrs: vec!["10.71.7.0/24".parse().unwrap()],
                wireguard_key: Some([9; 32]),
                wireguard_port: 51881,
                vxlan_port: 8473,
            }),
            Object::Ip(Ip {
                cluster: cluster.clone(),
                prefix: "10.71.7.44/32".parse().unwrap(),
                identity: SecurityIdentity(459_953),
                host: Some("192.0.2.17".parse().unwrap()),
                namespace: Some("shop".into()),
                pod: None,
            }),
            Object::Service(Service {
                cluster: cluster.clone(),
                name: service.clone(),
                frontends: vec![Frontend { address: "10.96.7.20".parse().unwrap(), ports: ports.clone() }],
                global: true,
                shared: true,
                prefers: Preference {
                    affinity: Affinity::Remote,
                    failover: vec![cluster.clone(), ClusterName::new("west").unwrap()],
                    weights: BTreeMap::from([(cluster.clone(), 80)]),
                    spillover: Some(50),
                    withdraw_after: Some(WithdrawAfter::Seconds(600)),
                    stale_after: Some(StaleAfter::Never),
                },
            }),
            Object::Backend(ServiceBackend {
                cluster,
                service,
                address: "10.71.7.44".parse().unwrap(),
                ports,
                state: BackendState::Terminating,
                node: Some(NodeName("w1".into())),
                zone: None,
                weight: 3,
            }),
        ]
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let delta = Delta {
            deletes: all_kinds().iter().map(Object::key).collect(),
            upserts: all_kinds(),
            revision: 42,
            origin_times: [(ClusterName::new("east").unwrap(), 5)].into_iter().collect(),
        };
        let wire = v1::Delta::from(&delta);
        assert_eq!(Delta::try_from(wire).unwrap(), delta);
    }

    #[test]
    fn a_bad_address_is_refused_and_named() {
        let bad = v1::Ip { cluster: "east".into(), ..Default::default() };
        let error = Object::try_from(v1::Object { kind: Some(v1::object::Kind::Ip(bad)) }).unwrap_err();
        assert_eq!(error.to_string(), "ip.prefix is missing");
        let key = v1::Key { kind: None };
        assert_eq!(Key::try_from(key).unwrap_err().to_string(), "key is missing");
    }

    #[test]
    fn one_backend_change_costs_less_than_200_bytes() {
        use prost::Message;
        let backend = all_kinds().pop().unwrap();
        let delta = Delta { upserts: vec![backend], revision: 1 << 40, ..Delta::default() };
        assert!(v1::Delta::from(&delta).encoded_len() <= 200);
    }
}
