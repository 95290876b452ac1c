use mesh_types::BackendState;
use serde_json::json;

use super::*;
use crate::examples::{node, object, pod, service, slice};
use crate::objects::Meta;

fn index() -> Index {
    Index::new(Settings {
        cluster: ClusterName::new("east").unwrap(),
        cluster_id: ClusterId::new(7).unwrap(),
        encryption: Encryption::Wireguard,
    })
}

fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, &Meta { name: name.into(), namespace: "shop".into(), ..Meta::default() })
}

fn global() -> serde_json::Value {
    json!({"service.cilium.io/global": "true"})
}

/// Short forms of what changed: `+` set, `-` gone.
fn shown(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|c| {
            let sign = if c.value.is_some() { '+' } else { '-' };
            match &c.key {
                Key::Node(n) => format!("{sign}node {n}"),
                Key::Ip(ip) => format!("{sign}ip {ip}"),
                Key::LocalService(s) => format!("{sign}local {s}"),
                Key::LocalBackend(s, ip) => format!("{sign}backend {s} {ip}"),
                Key::Service(s) => format!("{sign}service {s}"),
                Key::EndpointSlice { namespace, slice } => format!("{sign}slice {namespace}/{slice}"),
                Key::ServiceExport(s) => format!("{sign}export {s}"),
                Key::Terms(scope) => format!("{sign}terms {scope}"),
            }
        })
        .collect()
}

fn address(changes: &[Change]) -> &Address {
    let mut addresses = changes.iter().filter(|change| !matches!(change.key, Key::Terms(_)));
    match (addresses.next(), addresses.next()) {
        (Some(Change { value: Some(Value::Ip(address)), .. }), None) => address,
        _ => panic!("one address, not {changes:?}"),
    }
}

#[test]
fn a_pod_is_an_address_on_its_node_whatever_comes_first() {
    let mut index = index();
    let changes = index.apply(pod("cart-1", "10.7.1.2", "cart"));
    assert_eq!(address(&changes).value.host_ip, "192.0.2.9", "the pod's own word until the node is known");
    let changes = index.apply(node("n1", "192.0.2.17", "10.7.1.0/24"));
    assert_eq!(shown(&changes), ["+node n1", "+ip 10.7.1.2"]);
    assert!(index.apply(node("n1", "192.0.2.17", "10.7.1.0/24")).is_empty(), "nothing changed");
    assert_eq!(shown(&index.delete(&key(Kind::Pod, "cart-1"))), ["-ip 10.7.1.2"]);
    assert_eq!(index.pod_cidrs(), ["10.7.1.0/24".parse().unwrap()]);
}

#[test]
fn host_network_and_ended_pods_have_no_address_of_their_own() {
    let mut index = index();
    let host = json!({"kind": "Pod", "metadata": {"name": "h", "namespace": "shop"},
        "spec": {"hostNetwork": true}, "status": {"podIP": "192.0.2.9"}});
    assert!(index.apply(object(&host)).is_empty());
    index.apply(pod("job", "10.7.1.3", "job"));
    let ended = json!({"kind": "Pod", "metadata": {"name": "job", "namespace": "shop"},
        "status": {"phase": "Succeeded", "podIP": "10.7.1.3"}});
    assert_eq!(shown(&index.apply(object(&ended))), ["-ip 10.7.1.3"]);
}

#[test]
fn an_address_belongs_to_its_first_claimant_until_that_goes() {
    let mut index = index();
    index.apply(pod("old", "10.7.1.2", "cart"));
    assert!(index.apply(pod("new", "10.7.1.2", "pay")).is_empty());
    let errors = index.errors();
    assert_eq!(errors[&key(Kind::Pod, "new")], "address 10.7.1.2 belongs to Pod shop/old until that goes");
    let changes = index.delete(&key(Kind::Pod, "old"));
    assert_eq!(address(&changes).value.pod_name, "new");
    assert!(index.errors().is_empty());
}

#[test]
fn a_namespaces_labels_are_part_of_its_pods_identities() {
    let mut index = index();
    index.apply(pod("cart-1", "10.7.1.2", "cart"));
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"tier": "gold"}}});
    let changes = index.apply(object(&namespace));
    let labels = &address(&changes).labels;
    assert_eq!(labels.get("io.cilium.k8s.namespace.labels.tier"), Some("gold"));
    assert_eq!(labels.get("app"), Some("cart"));
    assert_eq!(labels.get("pod-template-hash"), None);
}

#[test]
fn a_nodes_value_follows_its_agents_registration() {
    let mut index = index();
    let registration = Registration {
        wireguard_key: Some([9; 32]),
        wireguard_port: 51881,
        vxlan_port: 8473,
        ..Registration::default()
    };
    assert!(index.register("n1", Some(registration.clone())).is_empty(), "no Node object yet");
    let changes = index.apply(node("n1", "192.0.2.17", "10.7.1.0/24"));
    let [Change { value: Some(Value::Node(value)), .. }] = &changes[..] else { panic!("one node") };
    let word = value.to_node().unwrap();
    assert_eq!((word.wireguard_key, word.wireguard_port, word.vxlan_port), (Some([9; 32]), 51881, 8473));
    assert!(index.register("n1", Some(registration)).is_empty());
    assert_eq!(shown(&index.register("n1", None)), ["+node n1"]);
}

#[test]
fn only_a_global_and_shared_service_leaves_the_cluster_with_its_ready_backends() {
    let mut index = index();
    index.apply(slice("cart-x", &[("10.7.1.2", '+'), ("10.7.1.3", '-'), ("10.7.1.4", 't')]));
    let changes = index.apply(service("10.96.7.20", &json!({})));
    assert_eq!(changes.len(), 4, "for the own agents only: {:?}", shown(&changes));
    let changes = index.apply(service("10.96.7.20", &global()));
    assert_eq!(shown(&changes), ["+local shop/cart", "+service shop/cart", "+slice shop/cart-x"]);
    let Some(Value::Service(value)) = &changes[1].value else { panic!("a service") };
    let Some(Value::EndpointSlice(sliced)) = &changes[2].value else { panic!("a slice") };
    let states: Vec<_> = sliced.to_backends().unwrap().iter().map(|backend| backend.state).collect();
    assert_eq!(states, [BackendState::Active, BackendState::NotReady, BackendState::Terminating], "all of them");
    assert_eq!(value.backends.keys().collect::<Vec<_>>(), ["10.7.1.2"]);
    assert_eq!(value.backends["10.7.1.2"]["grpc"].port, 8080);
    assert_eq!(value.frontends["10.96.7.20"]["grpc"].port, 7070);
    assert_eq!(value.selector["app"], "cart");
    let private = json!({"service.cilium.io/global": "true", "service.cilium.io/shared": "false"});
    let gone = ["+local shop/cart", "-service shop/cart", "-slice shop/cart-x"];
    assert_eq!(shown(&index.apply(service("10.96.7.20", &private))), gone);
}

#[test]
fn one_backend_of_a_service_changes_one_backend_and_the_legacy_value() {
    let mut index = index();
    index.apply(service("10.96.7.20", &global()));
    index.apply(slice("cart-x", &[("10.7.1.2", '+'), ("10.7.1.3", '+')]));
    let changes = index.apply(slice("cart-x", &[("10.7.1.2", '+'), ("10.7.1.3", 't')]));
    assert_eq!(shown(&changes), ["+service shop/cart", "+backend shop/cart 10.7.1.3", "+slice shop/cart-x"]);
    let Some(Value::LocalBackend(backend)) = &changes[1].value else { panic!("a backend") };
    assert_eq!(backend.state, BackendState::Terminating);
    let changes = index.apply(slice("cart-x", &[("10.7.1.2", '+')]));
    assert_eq!(
        shown(&changes),
        ["-backend shop/cart 10.7.1.3", "+slice shop/cart-x"],
        "it was not ready, so the legacy value did not have it"
    );
}

#[test]
fn an_address_in_two_slices_is_one_backend_and_the_better_state_counts() {
    let mut index = index();
    index.apply(service("10.96.7.20", &json!({})));
    index.apply(slice("cart-x", &[("10.7.1.2", '-')]));
    let changes = index.apply(slice("cart-y", &[("10.7.1.2", '+')]));
    assert_eq!(shown(&changes), ["+backend shop/cart 10.7.1.2"]);
    assert_eq!(shown(&index.delete(&key(Kind::EndpointSlice, "cart-x"))), Vec::<String>::new());
    assert_eq!(shown(&index.delete(&key(Kind::EndpointSlice, "cart-y"))), ["-backend shop/cart 10.7.1.2"]);
}

#[test]
fn an_unknown_affinity_is_shown_and_keeps_the_service_local() {
    let mut index = index();
    let annotations = json!({"service.cilium.io/global": "true", "service.cilium.io/affinity": "nearest"});
    let changes = index.apply(service("10.96.7.20", &annotations));
    assert_eq!(shown(&changes), ["+local shop/cart"]);
    assert_eq!(
        index.errors()[&key(Kind::Service, "cart")],
        "annotation service.cilium.io/affinity: \"nearest\" is not an affinity: use local, remote or none; until then the \
         Service is not global"
    );
    index.apply(service("10.96.7.20", &global()));
    assert!(index.errors().is_empty());
}

#[test]
fn what_an_object_says_of_who_may_have_it_is_told_once_and_its_end_too() {
    use mesh_types::exchange::Terms;
    let mut index = index();
    let namespace = |annotations: serde_json::Value| {
        object(&json!({"kind": "Namespace", "metadata": {"name": "shop", "annotations": annotations}}))
    };
    let terms = |changes: &[Change]| -> Vec<(String, Option<Terms>)> {
        let read = |change: &Change| match (&change.key, &change.value) {
            (Key::Terms(scope), Some(Value::Terms(terms))) => Some((scope.to_string(), Some(terms.clone()))),
            (Key::Terms(scope), None) => Some((scope.to_string(), None)),
            _ => None,
        };
        changes.iter().filter_map(read).collect()
    };
    let b = Some([ClusterName::new("b").unwrap()].into());
    let restricted = Terms { export_to: b.clone(), ..Terms::default() };
    let ns = || "Namespace shop".to_owned();
    assert_eq!(terms(&index.apply(namespace(json!({})))), [(ns(), Some(Terms::default()))]);
    let rule = json!({"mesh.isthmus.io/export-to": "b"});
    assert_eq!(terms(&index.apply(namespace(rule.clone()))), [(ns(), Some(restricted.clone()))]);
    assert!(index.apply(namespace(rule.clone())).is_empty(), "nothing changed");
    assert_eq!(terms(&index.apply(service("10.96.7.20", &rule))), [("Service shop/cart".to_owned(), Some(restricted))]);
    assert_eq!(terms(&index.apply(service("10.96.7.20", &json!({})))), [("Service shop/cart".to_owned(), None)]);
    assert_eq!(
        terms(&index.delete(&ObjectKey { namespace: String::new(), ..key(Kind::Namespace, "shop") })),
        [(ns(), None)]
    );
}

#[test]
fn a_list_of_clusters_that_is_not_understood_is_shown_with_its_effect_beside_other_mistakes() {
    let mut index = index();
    let annotations = json!({
        "service.cilium.io/global": "true", "mesh.isthmus.io/failover": "B",
        "mesh.isthmus.io/export-to": "b,b", "mesh.isthmus.io/import-from": "none,c",
    });
    index.apply(service("10.96.7.20", &annotations));
    let error = &index.errors()[&key(Kind::Service, "cart")];
    for part in [
        "mesh.isthmus.io/failover: cluster name \"B\" is not valid",
        "annotation mesh.isthmus.io/export-to names b twice (write names of clusters with commas between, or none); until \
         then nothing of it is exported",
        "annotation mesh.isthmus.io/import-from: \"none\" stands alone",
        "until then no Service of another cluster is taken for it",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    index.apply(service("10.96.7.20", &global()));
    assert!(index.errors().is_empty());
}

#[test]
fn a_headless_service_has_hostnames_and_no_frontend() {
    let mut index = index();
    let headless = json!({"kind": "Service", "metadata": {"name": "cart", "namespace": "shop", "annotations": global()},
        "spec": {"clusterIP": "None", "ports": [{"name": "grpc", "port": 7070}]}});
    index.apply(object(&headless));
    let slice = json!({"kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "cart-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
        "endpoints": [{"addresses": ["10.7.1.2"], "hostname": "cart-0"}], "ports": [{"name": "grpc", "port": 7070}]});
    let changes = index.apply(object(&slice));
    let Some(Value::Service(value)) = &changes[0].value else { panic!("a service: {changes:?}") };
    assert!(value.frontends.is_empty());
    assert_eq!(value.hostnames["10.7.1.2"], "cart-0");
}

#[test]
fn of_a_dual_stack_cluster_ipv4_leaves_it() {
    let mut index = index();
    index.apply(object(&json!({
        "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDRs": ["fd00:7::/64", "10.7.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "2001:db8::17"}, {"type": "InternalIP", "address": "192.0.2.17"}]},
    })));
    let changes = index.apply(object(&json!({
        "kind": "Pod", "metadata": {"name": "cart-1", "namespace": "shop"}, "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "podIP": "fd00:7::2", "podIPs": [{"ip": "fd00:7::2"}, {"ip": "10.7.1.2"}]},
    })));
    assert_eq!(shown(&changes), ["+ip 10.7.1.2"]);
    assert_eq!(address(&changes).value.host_ip, "192.0.2.17");
    let slice_of = |name: &str, family: &str, ip: &str| {
        object(&json!({
            "kind": "EndpointSlice", "addressType": family, "ports": [{"name": "grpc", "port": 8080}],
            "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
            "endpoints": [{"addresses": [ip], "hostname": "cart-1", "zone": "z1", "hints": {"forZones": [{"name": "z1"}]}}],
        }))
    };
    index.apply(slice_of("cart-4", "IPv4", "10.7.1.2"));
    index.apply(slice_of("cart-6", "IPv6", "fd00:7::2"));
    let changes = index.apply(object(&json!({
        "kind": "Service", "metadata": {"name": "cart", "namespace": "shop", "annotations": global()},
        "spec": {"clusterIP": "10.96.7.20", "clusterIPs": ["10.96.7.20", "fd00:96::20"], "ports": [{"name": "grpc", "port": 7070}]},
    })));
    let both =
        ["+local shop/cart", "+service shop/cart", "+backend shop/cart 10.7.1.2", "+backend shop/cart fd00:7::2"];
    assert_eq!(shown(&changes), [&both[..], &["+slice shop/cart-4"]].concat(), "its own agents see both");
    let Some(Value::Service(value)) = &changes[1].value else { panic!("a service") };
    assert_eq!(value.frontends.keys().collect::<Vec<_>>(), ["10.96.7.20"]);
    assert_eq!(value.backends.keys().collect::<Vec<_>>(), ["10.7.1.2"]);
    assert_eq!(value.hostnames.keys().collect::<Vec<_>>(), ["10.7.1.2"]);
    let Some(Value::EndpointSlice(sliced)) = &changes[4].value else { panic!("a slice") };
    let endpoint = &sliced.endpoints[0];
    assert_eq!(endpoint.zone.as_deref(), Some("z1"));
    assert_eq!(endpoint.hints.as_ref().map(|hints| hints.for_zones[0].name.as_str()), Some("z1"));
}

#[test]
fn pods_of_a_node_without_a_prefix_are_addresses_of_their_own_and_shown_where_others_would_not_take_them() {
    let mut index = index();
    index.apply(node("n1", "192.0.2.17", "10.7.1.0/24"));
    let bare = object(&json!({
        "kind": "Node", "metadata": {"name": "n2"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.18"}]},
    }));
    let changes = index.apply(bare);
    let [Change { value: Some(Value::Node(value)), .. }] = &changes[..] else { panic!("one node") };
    assert_eq!(value.to_node().unwrap().pod_cidrs, []);
    index.declare_pods(&index.pod_cidrs());
    let on_n2 = |name: &str, ip: &str| {
        object(&json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop"}, "spec": {"nodeName": "n2"},
                       "status": {"phase": "Running", "podIP": ip}}))
    };
    assert_eq!(address(&index.apply(on_n2("a", "172.20.0.5"))).value.host_ip, "192.0.2.18");
    index.apply(on_n2("b", "172.20.0.4"));
    let errors = index.errors();
    let error = &errors[&ObjectKey { kind: Kind::Node, namespace: String::new(), name: "n2".into() }];
    assert!(error.starts_with("2 pods on it, 172.20.0.4 for one, in none of the pod prefixes"), "{error}");
    assert_eq!(errors.len(), 1);
    index.delete(&key(Kind::Pod, "b"));
    index.declare_pods(&["172.20.0.0/16".parse().unwrap(), "10.7.0.0/16".parse().unwrap()]);
    assert_eq!(index.errors().len(), 0);
    index.declare_pods(&["10.7.0.0/16".parse().unwrap()]);
    assert_eq!(index.errors().len(), 1);
    index.delete(&key(Kind::Pod, "a"));
    assert_eq!(index.errors().len(), 0);
}

#[test]
fn named_ports_are_those_of_containers_and_sidecars() {
    let mut index = index();
    let container = |name: &str, port: u16| json!({"ports": [{"name": name, "containerPort": port}]});
    let mut sidecar = container("metrics", 9090);
    sidecar["restartPolicy"] = json!("Always");
    let changes = index.apply(object(&json!({
        "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}, "status": {"phase": "Running", "podIP": "10.7.1.2"},
        "spec": {"nodeName": "n1", "containers": [container("http", 8080)], "initContainers": [container("setup", 1), sidecar]},
    })));
    let ports: Vec<_> = address(&changes).value.named_ports.iter().map(|p| (p.name.as_str(), p.port)).collect();
    assert_eq!(ports, [("http", 8080), ("metrics", 9090)]);
}

#[test]
fn a_slice_of_another_clusters_backends_is_nothing_of_this_ones() {
    let of = |cluster: &str| {
        let Object::EndpointSlice(mut of_mcs) = slice("cart-x", &[("10.7.0.1", '+')]) else { panic!("a slice") };
        of_mcs.metadata.labels.insert("multicluster.kubernetes.io/source-cluster".into(), cluster.into());
        Object::EndpointSlice(of_mcs)
    };
    let mut index = index();
    index.apply(service("10.96.0.1", &global()));
    assert!(index.apply(of("west")).is_empty());
    let own = shown(&index.apply(of("east")));
    assert!(
        own.contains(&"+backend shop/cart 10.7.0.1".to_owned()) && own.contains(&"+slice shop/cart-x".to_owned()),
        "{own:?}"
    );
    let gone = shown(&index.apply(of("west")));
    assert!(gone.contains(&"-backend shop/cart 10.7.0.1".to_owned()), "{gone:?}");
}
