use super::super::EndpointSliceValue;
use super::super::endpoint_slice::{Endpoint, EndpointPort, SERVICE_NAME};
use super::*;

fn east() -> Rules {
    Rules {
        name: ClusterName::new("east").unwrap(),
        id: ClusterId::new(7).unwrap(),
        layout: IdentityLayout::Clusters255,
        pod_prefixes: vec!["10.71.0.0/16".parse().unwrap()],
        node_prefixes: vec!["192.0.2.0/24".parse().unwrap()],
        service_prefixes: vec!["10.96.0.0/16".parse().unwrap()],
    }
}

const NODE: &str = r#"{"Name":"w1","Cluster":"east","IPAddresses":[{"Type":"InternalIP","IP":"192.0.2.17"}],"IPv4AllocCIDR":{"IP":"10.71.7.0","Mask":"////AA=="},"ClusterID":7}"#;
const LABELS: &str = "k8s:app=cart;k8s:io.cilium.k8s.policy.cluster=east;";
const IP: &str = r#"{"IP":"10.71.7.44","HostIP":"192.0.2.17","ID":459953}"#;
const SERVICE: &str = r#"{"cluster":"east","namespace":"shop","name":"cart","frontends":{"10.96.7.20":{"grpc":{"Protocol":"TCP","Port":7070}}},"backends":{"10.71.7.44":{"grpc":{"Protocol":"TCP","Port":7070}}},"shared":true,"clusterID":7}"#;
const EXPORT: &str = r#"{"cluster":"east","name":"cart","namespace":"shop","exportCreationTimestamp":"2026-03-04T05:06:07Z","ports":[],"type":"Headless","sessionAffinity":"None"}"#;

fn slice() -> EndpointSliceValue {
    EndpointSliceValue {
        cluster: "east".into(),
        cluster_id: 7,
        namespace: "shop".into(),
        name: "cart-1".into(),
        labels: [(SERVICE_NAME.to_owned(), "cart".to_owned())].into(),
        address_type: "IPv4".into(),
        endpoints: vec![Endpoint { addresses: vec!["10.71.7.44".into()], ..Endpoint::default() }],
        ports: vec![EndpointPort { port: Some(7070), ..EndpointPort::default() }],
        ..EndpointSliceValue::default()
    }
}

#[test]
fn what_a_cluster_says_of_itself_is_accepted() {
    let rules = east();
    rules.check(Resource::Nodes, "w1", NODE.as_bytes()).unwrap();
    rules.check(Resource::Identities, "459953", LABELS.as_bytes()).unwrap();
    rules.check(Resource::Ip, "10.71.7.44", IP.as_bytes()).unwrap();
    rules.check(Resource::Services, "shop/cart", SERVICE.as_bytes()).unwrap();
    rules.check(Resource::ServiceExports, "shop/cart", EXPORT.as_bytes()).unwrap();
    rules.check(Resource::EndpointSlices, "shop/cart-1", &slice().encode()).unwrap();
    let health = r#"{"IP":"10.71.7.9","HostIP":"192.0.2.17","ID":4}"#;
    rules.check(Resource::Ip, "10.71.7.9", health.as_bytes()).unwrap();
    let node = r#"{"IP":"192.0.2.17","HostIP":"192.0.2.17","ID":1}"#;
    rules.check(Resource::Ip, "192.0.2.17", node.as_bytes()).unwrap();
    let cidr = r#"{"IP":"10.71.8.0","Mask":"////AA==","HostIP":"","ID":2}"#;
    rules.check(Resource::Ip, "10.71.8.0/24", cidr.as_bytes()).unwrap();
    let older_host = r#"{"IP":"10.71.7.44","Mask":"/////w==","HostIP":"192.0.2.17","ID":459953}"#;
    rules.check(Resource::Ip, "10.71.7.44/32", older_host.as_bytes()).unwrap();
    let config = br#"{"id":7,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255}}"#;
    assert!(rules.check_config(config).unwrap().capabilities.synced_canaries);
}

#[test]
fn every_hostile_value_breaks_its_own_rule() {
    use Resource::{Identities, Ip as Addresses, Nodes, ServiceExports, Services};
    let west = |text: &str| text.replace("east", "west");
    let cases: Vec<(Resource, &str, String, Rule)> = vec![
        (Nodes, "w1", west(NODE), Rule::OwnCluster),
        (Nodes, "w1", NODE.replace("\"ClusterID\":7", "\"ClusterID\":8"), Rule::OwnClusterId),
        (Nodes, "w2", NODE.into(), Rule::KeyNamesValue),
        (Nodes, "w1", NODE.replace("192.0.2.17", "192.0.3.17"), Rule::NodeAddress),
        (Nodes, "w1", NODE.replace("10.71.7.0", "10.72.7.0"), Rule::NodePodCidr),
        (Nodes, "w1", NODE.replace("////AA==", "/wAAAA=="), Rule::NodePodCidr),
        (Nodes, "w1", "{\"Name\":\"w1\"".into(), Rule::Form),
        (Nodes, "", NODE.replace("\"w1\"", "\"\""), Rule::Form),
        (Nodes, "a/w1", NODE.replace("\"w1\"", "\"a/w1\""), Rule::Form),
        (Nodes, "w1", NODE.replace("w1", &"w".repeat(254)), Rule::Form),
        (Nodes, "w1", format!("{NODE}{}", " ".repeat(MAX_VALUE)), Rule::Size),
        (Identities, "459953", LABELS.repeat(MAX_VALUE / LABELS.len() + 1), Rule::Size),
        (Addresses, "10.71.7.44", format!("{IP}{}", " ".repeat(MAX_VALUE)), Rule::Size),
        (
            Addresses,
            "10.71.7.44",
            IP.replace("\"ID\"", &format!("\"K8sPodName\":\"{}\",\"ID\"", "p".repeat(254))),
            Rule::Form,
        ),
        (Addresses, "10.71.7.44", IP.replace("\"ID\"", "\"K8sNamespace\":\"a/b\",\"ID\""), Rule::Form),
        (ServiceExports, "shop/cart", format!("{EXPORT}{}", " ".repeat(MAX_VALUE)), Rule::Size),
        (ServiceExports, "shop/cart", EXPORT.replace("cart", &"c".repeat(254)), Rule::Form),
        (Identities, "393218", LABELS.into(), Rule::IdentityRange),
        (Identities, "4", LABELS.into(), Rule::IdentityRange),
        (Identities, "0459953", LABELS.into(), Rule::IdentityRange),
        (Identities, "x", LABELS.into(), Rule::IdentityRange),
        (Identities, "459953", west(LABELS), Rule::PolicyClusterLabel),
        (Identities, "459953", "k8s:app=cart;".into(), Rule::PolicyClusterLabel),
        (Identities, "459953", "cart".into(), Rule::Form),
        (Addresses, "10.71.7.44", IP.replace("459953", "393218"), Rule::IdentityRange),
        (Addresses, "10.72.7.44", IP.replace("10.71.7.44", "10.72.7.44"), Rule::PodAddress),
        (Addresses, "192.0.2.18", IP.replace("10.71.7.44", "192.0.2.18"), Rule::PodAddress),
        (Addresses, "10.71.7.45", IP.into(), Rule::KeyNamesValue),
        (Addresses, "10.71.7.44", IP.replace("192.0.2.17", "198.51.100.1"), Rule::HostAddress),
        (Addresses, "0.0.0.0/0", r#"{"IP":"0.0.0.0","Mask":"AAAAAA==","ID":2}"#.into(), Rule::PodAddress),
        (Addresses, "10.71.7.44", "[]".into(), Rule::Form),
        (Services, "shop/cart", west(SERVICE), Rule::OwnCluster),
        (Services, "shop/cart", SERVICE.replace("\"clusterID\":7", "\"clusterID\":1"), Rule::OwnClusterId),
        (Services, "shop/till", SERVICE.into(), Rule::KeyNamesValue),
        (Services, "shop/cart", SERVICE.replace("10.71.7.44", "10.1.1.9"), Rule::BackendAddress),
        (Services, "shop/cart", SERVICE.replace("10.96.7.20", "10.1.1.9"), Rule::FrontendAddress),
        (Services, "shop/cart", SERVICE.replace("10.96.7.20", "cart"), Rule::Form),
        (Services, "shop/cart", SERVICE.replace("10.71.7.44", "fe80::1%eth0"), Rule::Form),
        (Services, "/cart", SERVICE.replace("shop", ""), Rule::Form),
        (Services, "shop/a/cart", SERVICE.replace("\"cart\"", "\"a/cart\""), Rule::Form),
        (Services, "shop/cart", format!("{SERVICE}{}", " ".repeat(MAX_VALUE)), Rule::Size),
        (Services, "shop/cart", SERVICE.replace("cart", &"c".repeat(254)), Rule::Form),
        (ServiceExports, "shop/cart", west(EXPORT), Rule::OwnCluster),
        (ServiceExports, "shop/till", EXPORT.into(), Rule::KeyNamesValue),
        (ServiceExports, "till/cart", EXPORT.into(), Rule::KeyNamesValue),
        (ServiceExports, "/cart", EXPORT.replace("shop", ""), Rule::Form),
        (ServiceExports, "shop/", EXPORT.replace("cart", ""), Rule::Form),
        (ServiceExports, "shop/cart", EXPORT.replace("Headless", "NodePort"), Rule::Form),
        (ServiceExports, "shop/cart", "{}".into(), Rule::Form),
    ];
    for (resource, rest, value, rule) in cases {
        let rejection = east().check(resource, rest, value.as_bytes()).unwrap_err();
        assert_eq!(rejection.rule, rule, "{resource}/{rest}: {rejection}");
        assert_eq!(rejection.key, format!("{resource}/{rest}"));
    }
}

type Change = fn(&mut EndpointSliceValue);

#[test]
fn every_hostile_slice_breaks_its_own_rule() {
    let cases: [(&str, Change, Rule); 13] = [
        ("shop/cart-1", |s| s.cluster = "west".into(), Rule::OwnCluster),
        ("shop/cart-1", |s| s.cluster_id = 8, Rule::OwnClusterId),
        ("shop/cart-2", |_| (), Rule::KeyNamesValue),
        ("till/cart-1", |_| (), Rule::KeyNamesValue),
        ("/cart-1", |s| s.namespace.clear(), Rule::Form),
        ("shop/", |s| s.name.clear(), Rule::Form),
        ("shop/a/cart-1", |s| s.namespace = "shop/a".into(), Rule::Form),
        ("shop/cart-1", |s| s.address_type = "FQDN".into(), Rule::Form),
        ("shop/cart-1", |s| s.endpoints[0].addresses[0] = "10.1.1.9".into(), Rule::BackendAddress),
        ("shop/cart-1", |s| s.endpoints[0].addresses.push("10.1.1.9".into()), Rule::BackendAddress),
        ("shop/cart-1", |s| s.endpoints[0].addresses.push("fe80::1%eth0".into()), Rule::Form),
        ("shop/cart-1", |s| s.labels.clear(), Rule::Form),
        ("shop/cart-1", |s| s.ports[0].port = Some(70_000), Rule::Form),
    ];
    for (rest, change, rule) in cases {
        let mut slice = slice();
        change(&mut slice);
        let rejection = east().check(Resource::EndpointSlices, rest, &slice.encode()).unwrap_err();
        assert_eq!(rejection.rule, rule, "{rest}: {rejection}");
        assert_eq!(rejection.key, format!("endpointslices/{rest}"));
    }
    let not_packed = east().check(Resource::EndpointSlices, "shop/cart-1", b"{}").unwrap_err();
    assert_eq!(not_packed.rule, Rule::Form);
    let too_many = EndpointSliceValue { endpoints: vec![Endpoint::default(); 1001], ..slice() };
    let too_many = east().check(Resource::EndpointSlices, "shop/cart-1", &too_many.encode()).unwrap_err();
    assert!(too_many.to_string().ends_with("form: it may say 1000 endpoints"), "{too_many}");
}

#[test]
fn in_511_mode_a_configuration_must_say_so() {
    let wide = Rules { layout: IdentityLayout::Clusters511, id: ClusterId::new(300).unwrap(), ..east() };
    wide.check_config(br#"{"id":300,"capabilities":{"maxConnectedClusters":511}}"#).unwrap();
    for unlike in [r#"{"id":300}"#, r#"{"id":300,"capabilities":{"maxConnectedClusters":255}}"#] {
        let rejection = wide.check_config(unlike.as_bytes()).unwrap_err();
        assert_eq!((rejection.rule, rejection.allowed.as_str()), (Rule::MaxConnectedClusters, "511"));
    }
    let narrow = Rules { layout: IdentityLayout::Clusters255, ..wide };
    let rejection = narrow.check_config(br#"{"id":300}"#).unwrap_err();
    assert_eq!((rejection.rule, rejection.allowed.as_str()), (Rule::MaxConnectedClusters, "an id of 1 to 255"));
    east().check_config(br#"{"id":7}"#).unwrap();
}

#[test]
fn a_configuration_with_another_number_or_mode_is_rejected() {
    let rejection = east().check_config(br#"{"id":9}"#).unwrap_err();
    assert_eq!(rejection.to_string(), "cluster east may not say 9 in cluster-config: own-cluster-id: it may say 7");
    let other_mode = br#"{"id":7,"capabilities":{"maxConnectedClusters":511}}"#;
    assert_eq!(east().check_config(other_mode).unwrap_err().rule, Rule::MaxConnectedClusters);
    assert_eq!(east().check_config(br#"{"id":0}"#).unwrap_err().rule, Rule::OwnClusterId);
    let no_mode = br#"{"id":7,"capabilities":{"maxConnectedClusters":128}}"#;
    assert_eq!(east().check_config(no_mode).unwrap_err().rule, Rule::MaxConnectedClusters);
    let unknown = br#"{"id":7,"capabilities":{"endpointSlicesExportMode":"none"}}"#;
    assert!(east().check_config(unknown).unwrap_err().to_string().contains("endpointSlicesExportMode: \"none\""));
    assert_eq!(east().check_config(b"{").unwrap_err().rule, Rule::Form);
    assert_eq!(east().check_config(&vec![b' '; MAX_VALUE + 1]).unwrap_err().rule, Rule::Size);
}

#[test]
fn a_rejection_names_key_value_and_what_would_be_allowed() {
    let text = east().check(Resource::Ip, "10.71.7.44", IP.replace("459953", "393218").as_bytes()).unwrap_err();
    assert_eq!(
        text.to_string(),
        "cluster east may not say 393218 in ip/10.71.7.44: identity-range: it may say 458752 to 524287, or a reserved number"
    );
}

#[test]
fn a_rejection_shows_the_beginning_of_what_is_long() {
    let long = "ü".repeat(1000);
    for value in [NODE.replace("east", &long), NODE.replace("\"w1", &format!("\"w{long}"))] {
        let rejection = east().check(Resource::Nodes, &long, value.as_bytes()).unwrap_err();
        assert!(rejection.to_string().len() < 1000, "{rejection}");
        assert!(rejection.key.ends_with("..."), "{rejection}");
    }
}
