use federation::contract::service_export::{CLUSTER_SET_IP, ExportedPort, SessionAffinityConfig};
use proptest::prelude::*;

use super::*;

fn port(name: &str, protocol: &str, port: i32) -> ExportedPort {
    ExportedPort { name: name.to_owned(), protocol: protocol.to_owned(), app_protocol: None, port }
}

/// An export of `shop/cart` that was made so many seconds after the first.
fn export(cluster: &str, second: i64) -> ServiceExportValue {
    let created = jiff::Timestamp::from_second(1_770_000_000 + second).unwrap();
    ServiceExportValue {
        cluster: cluster.to_owned(),
        name: "cart".to_owned(),
        namespace: "shop".to_owned(),
        export_creation_timestamp: Some(created.to_string()),
        ports: vec![port("http", "TCP", 80)],
        kind: CLUSTER_SET_IP.to_owned(),
        session_affinity: "None".to_owned(),
        ip_families: vec!["IPv4".to_owned()],
        ..ServiceExportValue::default()
    }
}

fn reasons(import: &Import) -> Vec<String> {
    import.conflicts.iter().map(|conflict| conflict.reason.to_string()).collect()
}

fn shown(import: &Import) -> Vec<String> {
    import.ports.iter().map(|port| format!("{} {}/{}", port.name, port.port, port.protocol)).collect()
}

#[test]
fn nobodys_export_is_no_import_and_ones_is_as_it_says() {
    assert_eq!(resolve([]), None);
    let mut one = export("a", 0);
    one.labels.insert("tier".into(), "back".into());
    one.session_affinity = "ClientIP".to_owned();
    one.session_affinity_config = Some(SessionAffinityConfig::client_ip_timeout(10));
    one.internal_traffic_policy = Some("Local".to_owned());
    one.traffic_distribution = Some("PreferClose".to_owned());
    let import = resolve([&one]).unwrap();
    assert_eq!((import.is_headless, import.client_ip_seconds, import.conflicts.len()), (false, Some(10), 0));
    assert_eq!((import.session_affinity.as_str(), shown(&import)), ("ClientIP", vec!["http 80/TCP".to_owned()]));
    assert_eq!(import.internal_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(import.traffic_distribution.as_deref(), Some("PreferClose"));
    assert_eq!((import.labels, import.clusters), (one.labels, vec!["a".to_owned()]));
}

#[test]
fn each_field_in_which_exports_differ_is_the_oldests_and_a_conflict_of_its_own() {
    type Change = fn(&mut ServiceExportValue);
    let table: [(Change, &str); 9] = [
        (|e| e.kind = "Headless".to_owned(), "TypeConflict"),
        (|e| e.session_affinity = "ClientIP".to_owned(), "SessionAffinityConflict"),
        (|e| drop(e.labels.insert("a".into(), "b".into())), "LabelsConflict"),
        (|e| drop(e.annotations.insert("a".into(), "b".into())), "AnnotationsConflict"),
        (|e| e.internal_traffic_policy = Some("Local".into()), "InternalTrafficPolicyConflict"),
        (|e| e.traffic_distribution = Some("PreferClose".into()), "TrafficDistributionConflict"),
        (|e| e.ip_families = vec!["IPv6".into()], "IPFamilyConflict"),
        (|e| e.ports[0].port = 81, "PortConflict"),
        (|e| e.ports[0].app_protocol = Some("h2c".into()), "PortConflict"),
    ];
    for (change, reason) in table {
        let (old, mut young) = (export("b", 0), export("a", 1));
        change(&mut young);
        let import = resolve([&young, &old]).unwrap();
        assert_eq!(reasons(&import), [reason]);
        let alone = resolve([&old]).unwrap();
        let clusters = vec!["b".to_owned(), "a".to_owned()];
        assert_eq!(
            Import { conflicts: Vec::new(), clusters: alone.clusters.clone(), ..import.clone() },
            alone,
            "{reason}"
        );
        assert_eq!(import.clusters, clusters);
        assert!(import.conflicts[0].message.contains('a') && import.conflicts[0].message.contains('b'));
    }
}

#[test]
fn affinitys_settings_count_where_there_is_affinity() {
    let with = |cluster, second, timeout| {
        let mut export = export(cluster, second);
        export.session_affinity = "ClientIP".to_owned();
        export.session_affinity_config = Some(SessionAffinityConfig::client_ip_timeout(timeout));
        export
    };
    let import = resolve([&with("a", 0, 10), &with("b", 1, 20)]).unwrap();
    assert_eq!(
        (reasons(&import), import.client_ip_seconds),
        (vec!["SessionAffinityConfigConflict".to_owned()], Some(10))
    );
    let mut none = with("b", 1, 20);
    none.session_affinity = "None".to_owned();
    let import = resolve([&none]).unwrap();
    assert_eq!(import.client_ip_seconds, None, "a setting of nothing");
    let mut headless = [with("a", 0, 10), with("b", 1, 20)];
    for export in &mut headless {
        export.kind = HEADLESS.to_owned();
    }
    assert!(resolve(&headless).unwrap().conflicts.is_empty(), "what is only its backends has no affinity");
}

#[test]
fn several_conflicts_are_told_together() {
    let (old, mut young) = (export("a", 0), export("b", 1));
    young.kind = HEADLESS.to_owned();
    young.labels.insert("a".into(), "b".into());
    assert_eq!(reasons(&resolve([&old, &young]).unwrap()), ["TypeConflict", "LabelsConflict"]);
}

type Ports<'a> = &'a [(&'a str, &'a str, i32)];

#[test]
fn ports_are_the_union_and_a_name_or_a_number_is_the_oldests() {
    let with = |cluster, second, ports: &[(&str, &str, i32)]| {
        let ports = ports.iter().map(|(name, protocol, number)| port(name, protocol, *number)).collect();
        ServiceExportValue { ports, ..export(cluster, second) }
    };
    let table: [(Ports<'_>, Ports<'_>, &[&str]); 6] = [
        (&[("tcp", "TCP", 42)], &[("tcp", "TCP", 42), ("stcp", "SCTP", 142)], &["tcp 42/TCP", "stcp 142/SCTP"]),
        (&[("tcp", "TCP", 42), ("udp", "UDP", 42)], &[("tcp", "TCP", 43)], &["tcp 42/TCP", "udp 42/UDP"]),
        (&[("a", "TCP", 1)], &[("b", "TCP", 1)], &["a 1/TCP"]),
        (&[("a", "TCP", 1)], &[("b", "TCP", 2)], &["a 1/TCP", "b 2/TCP"]),
        (&[("", "TCP", 1)], &[("b", "TCP", 2)], &["tcp-1 1/TCP", "b 2/TCP"]),
        (&[("", "TCP", 1)], &[("tcp-1", "UDP", 2)], &["tcp-1-0 1/TCP", "tcp-1 2/UDP"]),
    ];
    for (old, young, union) in table {
        let import = resolve([&with("b", 1, young), &with("a", 0, old)]).unwrap();
        assert_eq!(
            (shown(&import), reasons(&import)),
            (union.iter().map(ToString::to_string).collect(), vec!["PortConflict".into()])
        );
    }
    let other_order = with("b", 1, &[("udp", "UDP", 42), ("tcp", "TCP", 42)]);
    let import = resolve([&with("a", 0, &[("tcp", "TCP", 42), ("udp", "UDP", 42)]), &other_order]).unwrap();
    assert!(import.conflicts.is_empty(), "the order of ports says nothing");
}

#[test]
fn a_port_leads_to_who_has_its_number_under_whatever_name() {
    let (old, mut young) = (export("a", 0), export("b", 1));
    young.ports = vec![port("web", "TCP", 80), port("http", "TCP", 8080)];
    let import = resolve([&old, &young]).unwrap();
    assert_eq!(shown(&import), ["http 80/TCP"], "the other's http has another number");
    assert_eq!(ports::name_in(&young, &import.ports[0]), Some("web"));
    young.ports.remove(0);
    assert_eq!(ports::name_in(&young, &import.ports[0]), None);
}

#[test]
fn a_word_that_kubernetes_does_not_take_is_left_out_alone_and_named() {
    let mut odd = export("a", 0);
    odd.labels = [("a b", "c"), ("tier", "back")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    odd.ports.push(port("NOT A NAME", "TCP", 81));
    odd.ports[0].app_protocol = Some("of mine".to_owned());
    let import = resolve([&odd]).unwrap();
    assert_eq!(import.labels.keys().collect::<Vec<_>>(), ["tier"]);
    assert_eq!((shown(&import), &import.ports[0].app_protocol), (vec!["http 80/TCP".to_owned()], &None));
    assert_eq!(reasons(&import), ["PortConflict", "LabelsConflict"]);
    assert!(import.conflicts[1].message.contains("\"a b\" of a is none that Kubernetes takes"));
}

#[test]
fn within_a_second_the_name_of_the_cluster_decides() {
    let (mut a, mut b) = (export("a", 0), export("b", 0));
    a.export_creation_timestamp = Some("2026-03-04T05:06:07.9Z".to_owned());
    b.export_creation_timestamp = Some("2026-03-04T05:06:07.1Z".to_owned());
    b.kind = HEADLESS.to_owned();
    assert!(!resolve([&b, &a]).unwrap().is_headless, "what a clock says below a second is not looked at");
    a.export_creation_timestamp = Some("2026-03-04T05:06:08Z".to_owned());
    assert!(resolve([&b, &a]).unwrap().is_headless);
}

#[test]
fn families_are_those_that_all_backends_have() {
    let with = |cluster, second, families: &[&str]| {
        let ip_families = families.iter().map(ToString::to_string).collect();
        ServiceExportValue { ip_families, ..export(cluster, second) }
    };
    let of = |exports: &[ServiceExportValue]| {
        let import = resolve(exports).unwrap();
        (import.ip_families.unwrap_or_default().join(","), import.conflicts.len())
    };
    assert_eq!(of(&[with("a", 0, &["IPv6", "IPv4"]), with("b", 1, &["IPv4", "IPv6"])]), ("IPv6,IPv4".into(), 0));
    assert_eq!(of(&[with("a", 0, &["IPv6", "IPv4"]), with("b", 1, &["IPv4"])]), ("IPv4".into(), 0));
    assert_eq!(of(&[with("a", 0, &["IPv6"]), with("b", 1, &["IPv4"])]), ("IPv6".into(), 1));
    assert_eq!(of(&[with("a", 0, &[]), with("b", 1, &["IPv4"])]), ("IPv4".into(), 0), "who does not say is not asked");
    assert_eq!(resolve([&with("a", 0, &[])]).unwrap().ip_families, None);
}

fn any_export() -> impl Strategy<Value = ServiceExportValue> {
    let ports = prop::collection::vec((0..4_usize, prop::bool::ANY, 1..4_i32), 0..4);
    let words = (prop::bool::ANY, prop::bool::ANY, 0..3_i64);
    (0..4_usize, words, ports).prop_map(|(cluster, (is_headless, is_sticky, second), ports)| {
        let mut value = export(["a", "b", "c", "d"][cluster], second);
        if is_headless {
            value.kind = HEADLESS.to_owned();
        }
        if is_sticky {
            value.session_affinity = "ClientIP".to_owned();
        }
        // As an API server lets them through: no name and no number of a protocol twice.
        value.ports.clear();
        for (name, is_udp, number) in ports {
            let new = port(["", "x", "y", "tcp-1"][name], if is_udp { "UDP" } else { "TCP" }, number);
            if value.ports.iter().all(|p| p.name != new.name && (&p.protocol, p.port) != (&new.protocol, new.port)) {
                value.ports.push(new);
            }
        }
        value
    })
}

/// One export a cluster.
fn any_exports() -> impl Strategy<Value = Vec<ServiceExportValue>> {
    prop::collection::vec(any_export(), 1..6).prop_map(|exports| {
        let by_cluster: BTreeMap<String, ServiceExportValue> =
            exports.into_iter().map(|export| (export.cluster.clone(), export)).collect();
        by_cluster.into_values().collect()
    })
}

proptest! {
    #[test]
    fn every_cluster_concludes_the_same_in_whatever_order_it_learns(
        (exports, shuffled) in any_exports().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle()))
    ) {
        prop_assert_eq!(resolve(&exports), resolve(&shuffled));
    }

    #[test]
    fn an_imports_ports_can_be_a_services_and_each_leads_somewhere(exports in any_exports()) {
        let import = resolve(&exports).unwrap();
        let names: BTreeSet<&str> = import.ports.iter().map(|port| port.name.as_str()).collect();
        let numbers: BTreeSet<(String, i32)> = import.ports.iter().map(|p| (p.protocol.to_string(), p.port)).collect();
        prop_assert_eq!((names.len(), numbers.len()), (import.ports.len(), import.ports.len()));
        prop_assert!(import.ports.len() < 2 || !names.contains(""));
        for port in &import.ports {
            prop_assert!(exports.iter().any(|export| ports::name_in(export, port).is_some()));
        }
        let oldest = exports.iter().min_by(|a, b| by_age(a, b)).unwrap();
        for port in &oldest.ports {
            prop_assert!(import.ports.iter().any(|p| p.port == port.port && p.protocol.to_string() == port.protocol));
        }
        let is_like = |export: &ServiceExportValue| {
            let has = |port: &ExportedPort| oldest.ports.contains(port);
            export.kind == oldest.kind && export.ports.len() == oldest.ports.len() && export.ports.iter().all(has)
        };
        prop_assert!(exports.iter().all(is_like) || !import.conflicts.is_empty());
    }
}
