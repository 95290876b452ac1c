use federation::contract::service::L4Port;
use federation::contract::service_export::{ExportedPort, HEADLESS};
use mesh_types::Protocol;

use super::super::resolve::resolve;
use super::*;

fn export(cluster: &str, ports: &[(&str, i32)]) -> ServiceExportValue {
    let port = |(name, port): &(&str, i32)| ExportedPort {
        name: (*name).to_owned(),
        protocol: "TCP".to_owned(),
        app_protocol: None,
        port: *port,
    };
    ServiceExportValue { cluster: cluster.to_owned(), ports: ports.iter().map(port).collect(), ..Default::default() }
}

fn slice(ports: &[(&str, i32)]) -> EndpointSliceValue {
    let port = |(name, port): &(&str, i32)| EndpointPort {
        name: Some((*name).to_owned()),
        protocol: Some("TCP".to_owned()),
        port: Some(*port),
        app_protocol: None,
    };
    let endpoint = Endpoint {
        addresses: vec!["10.2.0.1".to_owned()],
        conditions: Conditions { ready: Some(false), serving: Some(true), terminating: Some(true) },
        hostname: Some("cart-0".to_owned()),
        node_name: Some("n1".to_owned()),
        zone: Some("z".to_owned()),
        hints: None,
    };
    EndpointSliceValue {
        address_type: "IPv4".to_owned(),
        endpoints: vec![endpoint],
        ports: ports.iter().map(port).collect(),
        ..EndpointSliceValue::default()
    }
}

fn cart() -> ServiceName {
    ServiceName::new("shop", "cart")
}

fn ports_of(made: Option<(String, Value)>) -> Vec<(String, i64)> {
    let value = made.map(|(_, value)| value).unwrap_or_default();
    let ports = value["ports"].as_array().cloned().unwrap_or_default();
    ports.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), p["port"].as_i64().unwrap())).collect()
}

#[test]
fn a_slice_says_whose_it_is_and_what_its_endpoints_are() {
    let export = export("b", &[("http", 80)]);
    let import = resolve([&export]).unwrap();
    let (name, value) = made(&cart(), &import, &export, Origin::Peer, "cart-x", &slice(&[("http", 8080)])).unwrap();
    let derived = names::derived(&cart()).name;
    assert!(name.starts_with(&derived));
    let labels = json!({
        "kubernetes.io/service-name": derived, "multicluster.kubernetes.io/service-name": "cart",
        "multicluster.kubernetes.io/source-cluster": "b", "endpointslice.kubernetes.io/managed-by": OWNER,
    });
    assert_eq!(value["metadata"]["labels"], labels);
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    let endpoint = json!({"addresses": ["10.2.0.1"], "conditions": conditions, "hostname": "cart-0", "zone": "z"});
    assert_eq!(value["endpoints"], json!([endpoint]), "a node of another cluster is none of this one's");
    let (other, value) = made(&cart(), &import, &export, Origin::Own, "cart-y", &slice(&[("http", 8080)])).unwrap();
    assert_eq!(value["endpoints"][0]["nodeName"], "n1");
    assert_ne!(name, other);
}

#[test]
fn a_port_leads_only_to_the_clusters_that_export_it() {
    let (old, mut young) = (export("a", &[("tcp", 42), ("web", 80)]), export("b", &[("tcp", 4242), ("http", 80)]));
    young.export_creation_timestamp = None;
    let import = resolve([&old, &young]).unwrap();
    let own = |export, ports: &[(&str, i32)]| ports_of(made(&cart(), &import, export, Origin::Own, "s", &slice(ports)));
    assert_eq!(own(&old, &[("tcp", 1042), ("web", 1080)]), [("tcp".to_owned(), 1042), ("web".to_owned(), 1080)]);
    assert_eq!(
        own(&young, &[("tcp", 1042), ("http", 1080)]),
        [("web".to_owned(), 1080)],
        "the same number, other name"
    );
    let peer = |ports: &[(&str, i32)]| ports_of(made(&cart(), &import, &young, Origin::Peer, "s", &slice(ports)));
    assert_eq!(peer(&[("tcp", 1042), ("web", 1080)]), [("web".to_owned(), 1080)], "whatever a peer says");
    assert_eq!(peer(&[("tcp", 1042)]), []);
}

#[test]
fn what_no_port_leads_to_is_not_made_but_for_what_is_only_its_backends() {
    let mut export = export("b", &[("http", 80)]);
    let import = resolve([&export]).unwrap();
    assert!(made(&cart(), &import, &export, Origin::Peer, "s", &slice(&[("other", 1)])).is_none());
    let v6 = EndpointSliceValue { address_type: "IPv6".to_owned(), ..slice(&[("http", 8080)]) };
    assert!(made(&cart(), &import, &export, Origin::Peer, "s", &v6).is_none(), "the datapath does not carry it");
    export.kind = HEADLESS.to_owned();
    export.ports.clear();
    let import = resolve([&export]).unwrap();
    assert!(made(&cart(), &import, &export, Origin::Peer, "s", &slice(&[])).is_some());
}

#[test]
fn a_services_own_value_stands_for_slices_with_each_set_of_ports_apart() {
    let http = |port| Ports::from([("http".to_owned(), L4Port { protocol: Protocol::Tcp, port })]);
    let mut service = ServiceValue::default();
    for n in 1..=150 {
        service.backends.insert(format!("10.2.0.{n}"), http(8080));
    }
    service.backends.insert("10.2.1.1".to_owned(), http(9090));
    service.backends.insert("fd00::1".to_owned(), http(8080));
    service.hostnames.insert("10.2.1.1".to_owned(), "cart-0".to_owned());
    let slices = of_service(&service);
    assert_eq!(slices.iter().map(|(_, slice)| slice.endpoints.len()).collect::<Vec<_>>(), [100, 50, 1]);
    assert_eq!(slices[2].1.endpoints[0].hostname.as_deref(), Some("cart-0"));
    assert_eq!(slices[2].1.ports[0].port, Some(9090));
    let names: BTreeSet<&String> = slices.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3);
}
