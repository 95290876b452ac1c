//! What a mock cluster says, made by the contract's own encoders. Pure: a cluster's number and shape give every key and value.
//!
//! Pods of cluster `c` are in `10.c.0.0/16`, its nodes in `192.168.c.0/24`, its Services in a /18 of `100.64.0.0/10`: no two
//! overlap.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use federation::contract::{ClusterConfig, IpValue, Layout, NodeValue, Resource, ServiceValue, identity, keys};
use federation::peer::Declaration;
use ipnet::{IpNet, Ipv4Net};
use mesh_types::view::{Encryption, Ip, Service, ServiceBackend};
use mesh_types::{
    BackendState, ClusterId, ClusterName, Frontend, IdentityLayout, Label, LabelSet, NamedPort, Node, NodeName,
    Preference, Protocol, SecurityIdentity, ServiceName,
};
use uuid::Uuid;

const LAYOUT: IdentityLayout = IdentityLayout::Clusters255;
/// Endpoints of one node: the addresses of a /24 but for its ends.
const PER_NODE: u32 = 253;

/// How much a cluster says.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Shape {
    /// Nodes of each cluster, 1 to 250
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub nodes: u32,
    /// Label sets of each cluster, at least 1
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub identities: u32,
    /// Pod addresses of each cluster, at most 253 a node
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Backends of one global Service of each cluster; 0: no Service
    #[arg(long, default_value_t = 0)]
    pub backends: u32,
    /// Serve the facts as a mirror does (KVStoreMesh): under `cilium/cache/`
    #[arg(long)]
    pub cached: bool,
}

/// A key and its value.
pub(super) type Fact = (String, Vec<u8>);

#[derive(Debug, Clone)]
pub struct Facts {
    pub name: ClusterName,
    pub id: ClusterId,
    pub shape: Shape,
    octet: u8,
}

impl Facts {
    pub fn new(number: u32, shape: Shape) -> Result<Self> {
        let octet = u8::try_from(number).context("mock clusters are 1 to 250, as their number is part of addresses")?;
        let id = ClusterId::new(number).context("a mock cluster's number")?;
        let name = ClusterName::new(format!("mock-{number}")).context("a mock cluster's name")?;
        let most = shape.nodes * PER_NODE;
        anyhow::ensure!(
            shape.endpoints <= most && shape.backends <= most,
            "{} nodes have at most {most} endpoints",
            shape.nodes
        );
        Ok(Self { name, id, shape, octet })
    }

    fn layout(&self) -> Layout {
        if self.shape.cached { Layout::Cache } else { Layout::State }
    }

    /// What it tells of itself when it is joined.
    pub fn declaration(&self, trust_bundle_pem: String, etcd_endpoint: String) -> Declaration {
        Declaration {
            name: self.name.clone(),
            id: self.id,
            uuid: Uuid::from_u128(u128::from(self.id.get())),
            trust_bundle_pem,
            etcd_endpoints: vec![etcd_endpoint],
            mesh_endpoints: Vec::new(),
            pod_prefixes: vec![net([10, self.octet, 0, 0], 16)],
            node_prefixes: vec![net([192, 168, self.octet, 0], 24)],
            service_prefixes: vec![self.service_prefix()],
            layout: LAYOUT,
            encryption: Encryption::Wireguard,
            version: "mock".to_owned(),
        }
    }

    fn service_prefix(&self) -> IpNet {
        net([100, 64 + self.octet / 4, self.octet % 4 * 64, 0], 18)
    }

    /// Everything it exports, in the order in which an exporter writes it: canaries last.
    pub fn all(&self) -> Vec<Fact> {
        let mut facts = vec![self.config()];
        facts.extend((0..self.shape.identities).map(|n| self.identity(n)));
        facts.extend((0..self.shape.nodes).map(|n| self.node(n)));
        facts.extend((0..self.shape.endpoints).map(|n| self.endpoint(n, format!("pod-{n}"))));
        if self.shape.backends > 0 {
            facts.push(self.service(None));
        }
        let written = federation::contract::stamp::rfc3339(jiff::Timestamp::UNIX_EPOCH);
        let exported = ClusterConfig::own(self.id, LAYOUT).capabilities;
        facts.extend(
            exported.exported().map(|kind| (self.layout().canary(kind, &self.name), written.clone().into_bytes())),
        );
        facts
    }

    pub fn config(&self) -> Fact {
        let config = ClusterConfig::own(self.id, LAYOUT);
        let config = if self.shape.cached { config.into_cached() } else { config };
        (keys::cluster_config(&self.name), config.encode())
    }

    fn number(&self, n: u32) -> SecurityIdentity {
        SecurityIdentity(LAYOUT.range(self.id).start() + n)
    }

    fn identity(&self, n: u32) -> Fact {
        let labels: LabelSet = [
            Label::k8s("app", format!("app-{n}")),
            Label::k8s("io.cilium.k8s.policy.cluster", self.name.as_str()),
            Label::k8s("io.cilium.k8s.policy.serviceaccount", "default"),
            Label::k8s("io.kubernetes.pod.namespace", "shop"),
        ]
        .into_iter()
        .collect();
        (self.layout().identity(&self.name, self.number(n)), identity::encode(&labels))
    }

    fn node_ip(&self, n: u32) -> IpAddr {
        Ipv4Addr::new(192, 168, self.octet, low(n + 1)).into()
    }

    fn node(&self, n: u32) -> Fact {
        let node = Node {
            cluster: self.name.clone(),
            cluster_id: self.id,
            name: NodeName(format!("node-{n}")),
            internal_ips: vec![self.node_ip(n)],
            pod_cidrs: vec![net([10, self.octet, low(n), 0], 24)],
            wireguard_key: Some([low(n); 32]),
            wireguard_port: 51_881,
            vxlan_port: 8473,
        };
        (self.layout().node(&self.name, &node.name), NodeValue::from_node(&node).encode())
    }

    fn pod_ip(&self, n: u32) -> IpAddr {
        Ipv4Addr::new(10, self.octet, low(n % self.shape.nodes), low(1 + n / self.shape.nodes)).into()
    }

    /// Endpoint `n`, behind which stands the pod of this name.
    pub fn endpoint(&self, n: u32, pod: String) -> Fact {
        let ip = Ip {
            cluster: self.name.clone(),
            prefix: IpNet::from(self.pod_ip(n)),
            identity: self.number(n % self.shape.identities),
            host: Some(self.node_ip(n % self.shape.nodes)),
            namespace: Some("shop".to_owned()),
            pod: Some(pod),
        };
        let value = IpValue::from_ip(&ip, federation::contract::ip::WIREGUARD_KEY);
        (self.layout().ip(&self.name, &ip.prefix), value.expect("an address of a pod is a host's").encode())
    }

    /// The global Service `shop/web`, with all of its backends, or all but one.
    pub fn service(&self, without: Option<u32>) -> Fact {
        let name = ServiceName::new("shop", "web");
        let ports = vec![NamedPort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 8080 }];
        let service = Service {
            cluster: self.name.clone(),
            name: name.clone(),
            frontends: vec![Frontend {
                address: self.service_prefix().hosts().next().expect("a /18 has hosts"),
                ports: vec![NamedPort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 }],
            }],
            global: true,
            shared: true,
            prefers: Preference::default(),
        };
        let backends: Vec<ServiceBackend> = (0..self.shape.backends)
            .filter(|n| without != Some(*n))
            .map(|n| ServiceBackend {
                cluster: self.name.clone(),
                service: name.clone(),
                address: self.pod_ip(n),
                ports: ports.clone(),
                state: BackendState::Active,
                node: None,
                zone: None,
                weight: 1,
            })
            .collect();
        (self.layout().service(&self.name, &name), ServiceValue::from_service(&service, self.id, &backends).encode())
    }

    /// The `n`-th of a line of things that no peer may say, and that one after the other are wrong in other ways.
    pub fn nonsense(&self, n: u32) -> Fact {
        let state = self.layout();
        let ip = |text: &str| format!("{}{text}", state.prefix(Resource::Ip, &self.name));
        let (_, good) = self.endpoint(0, "pod".to_owned());
        match n % 8 {
            0 => (ip(&format!("10.{}.200.{}", self.octet, n % 250)), vec![0xff, 0, b'{', 0xc3]),
            1 => (ip("10.251.0.1"), good),
            2 => (state.identity(&self.name, SecurityIdentity(n)), b"k8s:app=stolen;".to_vec()),
            3 => (
                state.node(&self.name, &NodeName("node-0".to_owned())),
                br#"{"Name":"node-0","Cluster":"own"}"#.to_vec(),
            ),
            4 => (state.service(&self.name, &ServiceName::new("shop", "web")), b"[[[[[[[[[[[[".to_vec()),
            5 => (ip("not an address"), good),
            6 => (ip(&format!("10.{}.201.1", self.octet)), vec![b'['; 64 << 10]),
            _ => (ip(&format!("{}\u{0}\n\u{1b}[2J", n % 250)), b"null".to_vec()),
        }
    }
}

fn net(octets: [u8; 4], length: u8) -> IpNet {
    Ipv4Net::new_assert(octets.into(), length).into()
}

/// The last octet of a number that the shape keeps below 256.
fn low(n: u32) -> u8 {
    u8::try_from(n % 256).expect("a remainder of 256")
}

#[cfg(test)]
mod tests {
    use federation::contract::keys::CacheKey;

    use super::*;

    const SHAPE: Shape = Shape { nodes: 100, identities: 100, endpoints: 1_000, backends: 10, cached: false };

    fn checked(facts: &Facts, key: &str, value: &[u8]) -> Result<(), federation::contract::validate::Rejection> {
        let rules = facts.declaration(String::new(), String::new()).rules();
        for kind in Resource::ALL {
            if let Some(rest) = key.strip_prefix(&facts.layout().prefix(kind, &facts.name)) {
                return rules.check(kind, rest, value);
            }
        }
        Ok(())
    }

    #[test]
    fn what_a_mock_cluster_says_is_what_it_may_say_and_nonsense_is_not() {
        for number in [1, 250] {
            for cached in [false, true] {
                let facts = Facts::new(number, Shape { cached, ..SHAPE }).unwrap();
                let all = facts.all();
                // One for each kind that a cluster exports.
                let canaries = Resource::ALL.len();
                assert_eq!(all.len(), 1 + 100 + 100 + 1_000 + 1 + canaries);
                for (key, value) in &all {
                    checked(&facts, key, value).unwrap();
                }
                let keys: std::collections::BTreeSet<_> = all.iter().map(|(key, _)| key).collect();
                assert_eq!(keys.len(), all.len(), "no key twice");
                assert_eq!(cached, all.iter().any(|(key, _)| CacheKey::parse(key).is_some()));
                for n in 0..16 {
                    let (key, value) = facts.nonsense(n);
                    checked(&facts, &key, &value).expect_err(&key);
                }
            }
        }
    }

    #[test]
    fn prefixes_of_mock_clusters_do_not_overlap() {
        let all: Vec<IpNet> = (1..=250)
            .flat_map(|number| {
                let said = Facts::new(number, SHAPE).unwrap().declaration(String::new(), String::new());
                [said.pod_prefixes, said.node_prefixes, said.service_prefixes].concat()
            })
            .collect();
        for (n, prefix) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| !other.contains(prefix) && !prefix.contains(other)), "{prefix}");
        }
    }
}
