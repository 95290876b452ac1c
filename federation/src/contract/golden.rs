//! The contract byte for byte: the project's own examples, what Cilium itself writes (`golden/vectors.rs`), and Cilium's
//! golden files where the machine has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_types::{BackendState, ClusterId, ClusterName, Node, NodeName, Protocol, ServiceName};
use prost::Message as _;

use super::keys::ip_segment;
use super::node::{WG_PUB_KEY, WIREGUARD_PORT};
use super::{ClusterConfig, EndpointSliceValue, IpValue, NodeValue, ServiceExportValue, ServiceValue};

mod round_trips;
mod vectors;

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

#[test]
fn a_slice_that_cilium_wrote_is_read_and_its_message_is_written_to_the_same_bytes() {
    let frame = BASE64.decode(vectors::SLICE_FRAME).unwrap();
    let slice = EndpointSliceValue::decode(&frame).unwrap();
    assert_eq!(serde_json::to_string(&slice).unwrap(), vectors::SLICE_JSON);
    assert_eq!(slice.encode_to_vec(), vectors::slice_message());
    assert_eq!(EndpointSliceValue::decode(&slice.encode()).unwrap(), slice);

    let backends = slice.to_backends().unwrap();
    let states: Vec<_> = backends.iter().map(|backend| (backend.address.to_string(), backend.state)).collect();
    let state = |address: &str, state| (address.to_owned(), state);
    assert_eq!(
        states,
        [
            state("10.71.7.44", BackendState::Active),
            state("10.71.7.45", BackendState::Terminating),
            state("10.71.7.46", BackendState::NotReady),
            state("10.71.7.47", BackendState::Active),
        ]
    );
    assert_eq!(backends[0].service, ServiceName::new("shop", "cart"));
    assert_eq!((backends[0].node.as_ref().unwrap().0.as_str(), backends[0].zone.as_deref()), ("worker-7", Some("a")));
    let ports: Vec<_> = backends[3].ports.iter().map(|p| (p.name.as_str(), p.protocol, p.port)).collect();
    assert_eq!(ports, [("grpc", Protocol::Tcp, 7070), ("", Protocol::Udp, 53)]);
}

#[test]
fn a_service_export_that_cilium_wrote_is_written_to_the_same_bytes_but_for_what_it_says_twice() {
    let export = ServiceExportValue::decode(vectors::SERVICE_EXPORT.as_bytes()).unwrap();
    let once = vectors::SERVICE_EXPORT.replace(r#""Labels":{"tier":"back"},"Annotations":{"team":"a"},"#, "");
    assert_eq!(String::from_utf8(export.encode()).unwrap(), once);
    assert_eq!(ServiceExportValue::decode(once.as_bytes()).unwrap(), export);
}

#[test]
fn addresses_that_cilium_wrote_are_read_and_only_a_hosts_mask_is_dropped() {
    for (key, text) in vectors::IPS {
        let value = IpValue::decode(text.as_bytes()).unwrap();
        assert_eq!(ip_segment(&value.prefix().unwrap()), key);
        assert_eq!(String::from_utf8(value.encode()).unwrap(), text.replace(r#""Mask":null,"#, ""));
    }
}

#[test]
fn a_configuration_that_cilium_wrote_is_written_to_the_same_bytes() {
    let config = ClusterConfig::decode(vectors::CLUSTER_CONFIG.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(config.encode()).unwrap(), vectors::CLUSTER_CONFIG);
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
