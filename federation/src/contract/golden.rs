//! The contract byte for byte: the project's own examples, and Cilium's golden files where the machine has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use mesh_types::view::{Service, ServiceBackend};
use mesh_types::{
    BackendState, ClusterId, ClusterName, Frontend, NamedPort, Node, NodeName, Preference, Protocol, ServiceName,
};
use proptest::prelude::*;

use super::node::{WG_PUB_KEY, WIREGUARD_PORT};
use super::{NodeValue, ServiceValue};

/// Removes white space outside of strings, so that order and text of every field still count.
fn compact(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c == '"' {
            in_string = true;
        } else if c.is_whitespace() {
            continue;
        }
        out.push(c);
    }
    out
}

/// Key and compacted value of every `*.expected` entry of a txtar file.
fn expected(archive: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for section in archive.split("\n-- ").filter(|s| s.split(" --").next().is_some_and(|n| n.ends_with(".expected"))) {
        let body = section.split_once('\n').map_or("", |(_, body)| body);
        for entry in body.split("# cilium/").filter(|e| !e.trim().is_empty()) {
            let (key, json) = entry.split_once('\n').unwrap();
            found.insert(format!("cilium/{key}"), compact(json));
        }
    }
    found
}

/// `None`, with a printed reason, on a machine without the golden files.
fn golden(file: &str) -> Option<BTreeMap<String, String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cilium-golden").join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Some(expected(&text)),
        Err(_absent) => {
            println!("skipped: Cilium's golden file {} is not on this machine", path.display());
            None
        }
    }
}

#[test]
fn ciliums_golden_nodes_read_and_write_to_the_same_bytes() {
    let Some(nodes) = golden("ciliumnodes.txtar") else { return };
    assert_eq!(nodes.len(), 2);
    for (key, json) in nodes {
        let value = NodeValue::decode(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(value.encode()).unwrap(), json, "{key}");
        let node = value.to_node().unwrap();
        assert_eq!(key, format!("cilium/state/nodes/v1/{}/{}", node.cluster, node.name));
        assert_eq!((node.internal_ips.len(), node.pod_cidrs.len()), (2, 2));
        assert_eq!(node.wireguard_key.is_some(), key.ends_with("test-node-1"));
        assert_eq!((node.wireguard_port, node.vxlan_port), (51_871, 8472), "a Cilium node listens on Cilium's ports");
    }
}

#[test]
fn ciliums_golden_services_read_and_write_to_the_same_bytes() {
    let Some(services) = golden("globalnamespace-services.txtar") else { return };
    assert_eq!(services.len(), 2);
    for (key, json) in services {
        let value = ServiceValue::decode(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(value.encode()).unwrap(), json, "{key}");
        let (service, backends) = value.to_service().unwrap();
        assert_eq!(key, format!("cilium/state/services/v1/{}/{}", service.cluster, service.name));
        let mut again = ServiceValue::from_service(&service, ClusterId::new(3).unwrap(), &backends);
        again.selector = value.selector.clone();
        assert_eq!(again, value);
    }
}

fn own_node() -> Node {
    Node {
        cluster: ClusterName::new("east").unwrap(),
        cluster_id: ClusterId::new(7).unwrap(),
        name: NodeName("w1".into()),
        internal_ips: vec!["192.0.2.17".parse().unwrap()],
        pod_cidrs: vec![
            "10.71.7.0/24".parse().unwrap(),
            "10.71.9.0/25".parse().unwrap(),
            "fd71:7::/64".parse().unwrap(),
        ],
        wireguard_key: Some([1; 32]),
        wireguard_port: 51_881,
        vxlan_port: 8473,
    }
}

#[test]
fn an_own_node_is_written_in_ciliums_order_with_its_ports_as_annotations() {
    let json = concat!(
        r#"{"Name":"w1","Cluster":"east","IPAddresses":[{"Type":"InternalIP","IP":"192.0.2.17"}],"#,
        r#""IPv4AllocCIDR":{"IP":"10.71.7.0","Mask":"////AA=="},"IPv4SecondaryAllocCIDRs":[{"IP":"10.71.9.0","Mask":"////gA=="}],"#,
        r#""IPv6AllocCIDR":{"IP":"fd71:7::","Mask":"//////////8AAAAAAAAAAA=="},"IPv6SecondaryAllocCIDRs":null,"#,
        r#""IPv4HealthIP":"","IPv6HealthIP":"","IPv4IngressIP":"","IPv6IngressIP":"","ClusterID":7,"Source":"custom-resource","#,
        r#""EncryptionKey":0,"Labels":null,"Annotations":{"mesh.isthmus.io/vxlan-port":"8473","mesh.isthmus.io/wireguard-port":"51881","#,
        r#""network.cilium.io/wg-pub-key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="},"#,
        r#""WireguardPubKey":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","BootID":""}"#,
    );
    let value = NodeValue::from_node(&own_node());
    assert_eq!(String::from_utf8(value.encode()).unwrap(), json);
    assert_eq!(NodeValue::decode(json.as_bytes()).unwrap(), value);
}

#[test]
fn a_nodes_key_is_found_in_the_annotation_too_and_bad_fields_are_named() {
    let mut value = NodeValue::from_node(&own_node());
    value.wireguard_pub_key.clear();
    assert_eq!(value.to_node().unwrap().wireguard_key, Some([1; 32]));
    let annotations = value.annotations.as_mut().unwrap();
    annotations.insert(WG_PUB_KEY.into(), "AQE=".into());
    assert!(value.to_node().unwrap_err().to_string().starts_with("WireguardPubKey: \"AQE=\""));
    let annotations = value.annotations.as_mut().unwrap();
    annotations.remove(WG_PUB_KEY);
    annotations.insert(WIREGUARD_PORT.into(), "many".into());
    assert!(value.to_node().unwrap_err().to_string().contains("\"many\" is not a port number"));
}

#[test]
fn null_and_absent_and_unknown_fields_are_read_over() {
    let text =
        r#"{"Name":"n","Cluster":"east","IPAddresses":null,"ClusterID":7,"NodeIdentity":0,"Later":[1],"BootID":null}"#;
    let node = NodeValue::decode(text.as_bytes()).unwrap().to_node().unwrap();
    assert!(node.internal_ips.is_empty() && node.pod_cidrs.is_empty() && node.wireguard_key.is_none());
    let text = r#"{"cluster":"east","namespace":"s","name":"n","frontends":null,"hostnames":{},"zones":null,"clusterID":7,"new":1}"#;
    let (service, backends) = ServiceValue::decode(text.as_bytes()).unwrap().to_service().unwrap();
    assert!(service.frontends.is_empty() && backends.is_empty());
}

fn ports() -> impl Strategy<Value = Vec<NamedPort>> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    prop::collection::btree_map("[a-z]{0,6}", (protocol, 1..=u16::MAX), 0..4).prop_map(|ports| {
        ports.into_iter().map(|(name, (protocol, port))| NamedPort { name, protocol, port }).collect()
    })
}

fn prefix() -> impl Strategy<Value = ipnet::IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, len)| ipnet::IpNet::new(a.into(), len).unwrap().trunc()),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(a, len)| ipnet::IpNet::new(a.into(), len).unwrap().trunc()),
    ]
}

proptest! {
    #[test]
    fn every_node_reads_back(
        mut cidrs in prop::collection::vec(prefix(), 0..5),
        ips in prop::collection::vec(any::<std::net::IpAddr>(), 0..4),
        key in any::<Option<[u8; 32]>>(),
        wireguard_port in 1..=u16::MAX,
        vxlan_port in 1..=u16::MAX,
    ) {
        // The layout keeps the order within a family only: one field for the first, one for the rest.
        cidrs.sort_by_key(|net| net.addr().is_ipv6());
        let mut node = Node { internal_ips: ips, wireguard_key: key, wireguard_port, vxlan_port, ..own_node() };
        node.pod_cidrs = cidrs;
        let mut back = NodeValue::decode(&NodeValue::from_node(&node).encode()).unwrap().to_node().unwrap();
        back.pod_cidrs.sort_by_key(|net| net.addr().is_ipv6());
        prop_assert_eq!(back, node);
    }

    #[test]
    fn every_service_reads_back(
        frontends in prop::collection::btree_map(any::<std::net::Ipv4Addr>(), ports(), 0..3),
        backends in prop::collection::btree_map(any::<std::net::Ipv4Addr>(), (ports(), prop::option::of("[a-z]{1,4}")), 0..4),
        shared in any::<bool>(),
    ) {
        let cluster = ClusterName::new("east").unwrap();
        let name = ServiceName::new("shop", "cart");
        let mut word = Service {
            cluster: cluster.clone(),
            name: name.clone(),
            frontends: frontends.into_iter().map(|(ip, ports)| Frontend { address: ip.into(), ports }).collect(),
            global: true,
            shared,
            prefers: Preference::default(),
        };
        word.frontends.sort_by_key(|f| f.address.to_string());
        let mut backends: Vec<ServiceBackend> = backends
            .into_iter()
            .map(|(ip, (ports, zone))| ServiceBackend {
                cluster: cluster.clone(), service: name.clone(), address: ip.into(), ports,
                state: BackendState::Active, node: None, zone, weight: 1,
            })
            .collect();
        backends.sort_by_key(|b| b.address.to_string());
        let value = ServiceValue::from_service(&word, ClusterId::new(7).unwrap(), &backends);
        let back = ServiceValue::decode(&value.encode()).unwrap().to_service().unwrap();
        prop_assert_eq!(back, (word, backends));
    }
}

#[test]
fn only_ready_backends_are_exported() {
    let (service, mut backends) = ServiceValue::decode(
        br#"{"cluster":"east","namespace":"s","name":"n","backends":{"10.0.0.1":{},"10.0.0.2":{},"10.0.0.3":{}},"clusterID":7}"#,
    )
    .unwrap()
    .to_service()
    .unwrap();
    backends[0].state = BackendState::Terminating;
    backends[1].state = BackendState::NotReady;
    let value = ServiceValue::from_service(&service, ClusterId::new(7).unwrap(), &backends);
    assert_eq!(value.backends.keys().collect::<Vec<_>>(), ["10.0.0.3"]);
}
