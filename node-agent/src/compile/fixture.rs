//! Two clusters of two nodes each, as in the lab, for the tests of this folder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::view::{Cluster, Delta, Encryption, Ip, Object, Service, ServiceBackend};
use mesh_types::{
    Affinity, BackendState, ClusterId, ClusterName, Frontend, NamedPort, Node, NodeName, Preference, Protocol,
    SecurityIdentity, ServiceName,
};

use super::Facts;
use crate::desired::View;

#[derive(Default)]
pub(crate) struct Mesh {
    pub(crate) view: View,
    pub(crate) guarded: BTreeSet<IpAddr>,
    pub(crate) paths: BTreeMap<IpAddr, bool>,
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

pub(crate) fn cart() -> ServiceName {
    ServiceName::new("shop", "cart")
}

fn ports(protocol: Protocol, port: u16) -> Vec<NamedPort> {
    vec![NamedPort { name: "http".into(), protocol, port }]
}

impl Mesh {
    /// Cluster `a` is the own one: 10.1.0.0/16, nodes 172.30.1.11 and .12; `b` has 10.2.0.0/16, 172.30.2.11 and .12.
    pub(crate) fn two_clusters() -> Self {
        let mut mesh = Self::default();
        mesh.cluster("a", 1);
        mesh.cluster("b", 2);
        mesh
    }

    fn cluster(&mut self, cluster: &str, id: u8) {
        self.put(Object::Cluster(Cluster {
            name: name(cluster),
            id: ClusterId::new(id.into()).unwrap(),
            is_local: id == 1,
            pod_prefixes: vec![net(&format!("10.{id}.0.0/16"))],
            encryption: Encryption::Wireguard,
        }));
        for node in [1_u8, 2] {
            self.put(Object::Node(Node {
                cluster: name(cluster),
                cluster_id: ClusterId::new(id.into()).unwrap(),
                name: NodeName(format!("{cluster}{node}")),
                internal_ips: vec![addr(&format!("172.30.{id}.1{node}"))],
                pod_cidrs: vec![net(&format!("10.{id}.{node}.0/24"))],
                wireguard_key: Some([id * 16 + node; 32]),
                wireguard_port: 51881,
                vxlan_port: 8473,
            }));
        }
    }

    /// With all paths up and all nodes guarded.
    pub(crate) fn connected() -> Self {
        let mut mesh = Self::two_clusters();
        mesh.open(2);
        mesh
    }

    /// The same with cluster `c`, 10.3.0.0/16.
    pub(crate) fn three_connected() -> Self {
        let mut mesh = Self::connected();
        mesh.cluster("c", 3);
        mesh.open(3);
        mesh
    }

    fn open(&mut self, id: u8) {
        for host in [11, 12].map(|n| IpAddr::from([172, 30, id, n])) {
            self.guarded.insert(host);
            self.paths.insert(host, true);
        }
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts { view: &self.view, guarded: &self.guarded, paths: &self.paths, leaves_own_services: false }
    }

    pub(crate) fn put(&mut self, object: Object) {
        self.view.apply(Delta { upserts: vec![object], ..Delta::default() });
    }

    pub(crate) fn ip(&mut self, cluster: &str, address: &str, host: &str, identity: u32) {
        self.put(Object::Ip(Ip {
            cluster: name(cluster),
            prefix: IpNet::from(addr(address)),
            identity: SecurityIdentity(identity),
            host: Some(addr(host)),
            namespace: None,
            pod: None,
        }));
    }

    pub(crate) fn encryption(&mut self, cluster: &str, encryption: Encryption) {
        let old = self.view.cluster(&name(cluster)).unwrap().clone();
        self.put(Object::Cluster(Cluster { encryption, ..old }));
    }

    pub(crate) fn service(cluster: &str, frontend: &str, affinity: Affinity) -> Service {
        Service {
            cluster: name(cluster),
            name: cart(),
            frontends: vec![Frontend { address: addr(frontend), ports: ports(Protocol::Tcp, 80) }],
            global: true,
            shared: true,
            prefers: Preference { affinity, ..Preference::default() },
        }
    }

    pub(crate) fn global_service(&mut self, cluster: &str, frontend: &str) {
        self.put(Object::Service(Self::service(cluster, frontend, Affinity::None)));
    }

    pub(crate) fn backend_object(cluster: &str, address: &str) -> ServiceBackend {
        ServiceBackend {
            cluster: name(cluster),
            service: cart(),
            address: addr(address),
            ports: ports(Protocol::Tcp, 8080),
            state: BackendState::Active,
            node: None,
            zone: None,
            weight: 1,
        }
    }

    /// A pod with its address, on the node that its third octet says.
    pub(crate) fn backend(&mut self, cluster: &str, address: &str) {
        let IpAddr::V4(v4) = addr(address) else { panic!("IPv4 only") };
        let [_, id, node, _] = v4.octets();
        self.ip(cluster, address, &format!("172.30.{id}.1{node}"), u32::from(id) << 16 | 0x101);
        self.put(Object::Backend(Self::backend_object(cluster, address)));
    }
}
