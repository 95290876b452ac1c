use federation::contract::{ServiceExportValue, keys};
use mesh_types::ClusterName;
use serde_json::{Value, json};

use crate::examples::{Cluster, object, service};
use crate::objects::{Kind, Object, ObjectKey};

const KEY: &str = "cilium/state/serviceexports/v1/east/shop/cart";
const CREATED: &str = "2026-03-04T05:06:07Z";

fn export(created: Option<&str>) -> Object {
    object(&json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"name": "cart", "namespace": "shop", "creationTimestamp": created, "labels": {"not": "told"}},
        "spec": {"exportedLabels": {"tier": "back"}, "exportedAnnotations": {"team": "a"}},
    }))
}

fn cart(spec: &Value) -> Object {
    object(
        &json!({"kind": "Service", "metadata": {"name": "cart", "namespace": "shop", "labels": {"app": "cart"}}, "spec": spec}),
    )
}

fn key(kind: Kind) -> ObjectKey {
    ObjectKey { kind, namespace: "shop".into(), name: "cart".into() }
}

/// What is written of exports: key, and value or nothing.
fn written(east: &mut Cluster) -> Vec<(String, Option<String>)> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let all = east.commit().into_iter().map(|(key, value)| (text(key), value));
    let exports = all.filter(|(key, _)| key.contains("/serviceexports/v1/"));
    exports.map(|(key, value)| (key, value.map(text))).collect()
}

fn errors(east: &Cluster) -> Vec<String> {
    east.index.errors().into_iter().map(|(key, error)| format!("{key}: {error}")).collect()
}

#[test]
fn a_service_is_told_as_cilium_tells_it_while_both_objects_are_there() {
    let mut east = Cluster::new("east", 7);
    east.apply(export(Some(CREATED)));
    assert_eq!(written(&mut east), []);
    assert_eq!(
        errors(&east),
        [
            "ServiceExport shop/cart: there is no Service of this name in its namespace: create it, or delete the export; until \
          then nothing is exported"
        ]
    );
    // As an API server stores it; but for the port of SCTP the value is that of `golden/vectors.rs`.
    east.apply(cart(&json!({
        "type": "ClusterIP", "clusterIP": "10.96.7.20", "clusterIPs": ["10.96.7.20"], "ipFamilies": ["IPv4"],
        "ports": [{"name": "grpc", "protocol": "TCP", "appProtocol": "h2c", "port": 7070, "targetPort": 8080},
                  {"protocol": "SCTP", "port": 1}],
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
        "internalTrafficPolicy": "Cluster", "trafficDistribution": "PreferClose",
    })));
    let text = concat!(
        r#"{"cluster":"east","name":"cart","namespace":"shop","annotations":{"team":"a"},"labels":{"tier":"back"},"#,
        r#""exportCreationTimestamp":"2026-03-04T05:06:07Z","ports":[{"name":"grpc","protocol":"TCP","appProtocol":"h2c","port":7070},{"protocol":"SCTP","port":1}],"#,
        r#""type":"ClusterSetIP","sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10}},"#,
        r#""ipFamilies":["IPv4"],"internalTrafficPolicy":"Cluster","trafficDistribution":"PreferClose"}"#,
    );
    assert_eq!(written(&mut east), [(KEY.to_owned(), Some(text.to_owned()))]);
    assert!(!errors(&east).iter().any(|error| error.starts_with("ServiceExport")), "{:?}", errors(&east));

    east.delete(&key(Kind::Service));
    assert_eq!(written(&mut east), [(KEY.to_owned(), None)]);
    east.apply(service("10.96.7.20", &json!({})));
    assert_eq!(written(&mut east).len(), 1, "a Service that is not global for all that");
    east.delete(&key(Kind::ServiceExport));
    assert_eq!(written(&mut east), [(KEY.to_owned(), None)]);
    assert!(errors(&east).is_empty());
}

#[test]
fn what_a_manifest_leaves_out_is_what_an_api_server_would_have_set() {
    let mut east = Cluster::new("east", 7);
    east.apply(export(Some(CREATED)));
    east.apply(cart(&json!({"clusterIP": "None", "ports": [{"port": 53, "protocol": "UDP"}]})));
    let [(_, Some(text))] = &written(&mut east)[..] else { panic!("one value") };
    let value = ServiceExportValue::decode(text.as_bytes()).unwrap();
    assert_eq!((value.kind.as_str(), value.session_affinity.as_str()), ("Headless", "None"));
    assert_eq!((value.ports[0].protocol.as_str(), value.ip_families), ("UDP", vec!["IPv4".to_owned()]));
}

#[test]
fn what_no_cluster_set_can_have_is_named_and_not_exported() {
    let table = [
        (json!({"type": "ExternalName", "externalName": "x.example"}), "its Service is of type ExternalName"),
        (json!({"clusterIP": "fd00::1", "ports": [{"port": 1}]}), "its Service has no IPv4 address"),
        (json!({"ipFamilies": ["IPv6"], "ports": [{"port": 1}]}), "add IPv4 to `ipFamilies`"),
        (
            json!({"sessionAffinity": "Cookie", "ports": [{"port": 1}]}),
            "sessionAffinity: \"Cookie\" is not None or ClientIP",
        ),
        (json!({"trafficDistribution": "Far", "ports": [{"port": 1}]}), "trafficDistribution: \"Far\""),
        (json!({"ports": [{"port": 0}]}), "port: \"0\" is not a port number"),
    ];
    for (spec, want) in table {
        let mut east = Cluster::new("east", 7);
        east.apply(export(Some(CREATED)));
        east.apply(cart(&json!({"clusterIP": "10.96.7.20", "ports": [{"port": 1}]})));
        assert_eq!(written(&mut east).len(), 1);
        east.apply(cart(&spec));
        assert_eq!(written(&mut east), [(KEY.to_owned(), None)], "{spec}");
        let found = errors(&east);
        let error = found.iter().find(|error| error.starts_with("ServiceExport shop/cart: ")).expect("an error");
        assert!(error.contains(want) && error.ends_with("until then nothing is exported"), "{error}");
    }
    let mut east = Cluster::new("east", 7);
    east.apply(cart(&json!({"ports": [{"port": 1}]})));
    east.apply(export(Some("yesterday")));
    assert_eq!(written(&mut east), []);
    assert!(
        errors(&east)[0].contains("exportCreationTimestamp: \"yesterday\" is not a time of RFC 3339"),
        "{:?}",
        errors(&east)
    );
}

#[test]
fn an_export_that_nobody_created_is_as_old_as_what_was_first_exported_of_it_over_restarts() {
    let created = |text: &str| {
        let value = ServiceExportValue::decode(text.as_bytes()).unwrap();
        (value.export_creation_timestamp.unwrap(), value.ports[0].port)
    };
    let ports = |port: u16| cart(&json!({"clusterIP": "10.96.7.20", "ports": [{"port": port}]}));
    let mut east = Cluster::new("east", 7);
    east.now = 1_772_600_767_000_000_000;
    east.apply(ports(1));
    east.apply(export(None));
    east.now += 5_000_000_000;
    east.apply(ports(2));
    let [(_, Some(text))] = &written(&mut east)[..] else { panic!("one value") };
    assert_eq!(created(text), (CREATED.to_owned(), 2), "as old as the first one, though that was never written");

    // Kept from others, it is the same fact.
    let kept = format!("{}{KEY}", keys::audience(&ClusterName::new("east").unwrap()));
    for stored_at in [KEY.to_owned(), kept] {
        let mut later = Cluster::new("east", 7);
        later.now = east.now + 3_600_000_000_000;
        later.facts.load(vec![(stored_at.into(), text.clone().into())]);
        later.apply(ports(3));
        later.apply(export(None));
        let [(key, Some(text)), ..] = &written(&mut later)[..] else { panic!("one value") };
        assert_eq!((key.as_str(), created(text)), (KEY, (CREATED.to_owned(), 3)));
    }
    // An API server knows better.
    east.apply(export(Some("2026-01-01T00:00:00Z")));
    let [(_, Some(text))] = &written(&mut east)[..] else { panic!("one value") };
    assert_eq!(created(text).0, "2026-01-01T00:00:00Z");
}

#[test]
fn an_export_is_shown_to_those_who_may_have_its_service() {
    let mut east = Cluster::new("east", 7);
    east.apply(object(&json!({"kind": "Namespace", "metadata": {"name": "shop",
        "annotations": {"mesh.isthmus.io/export-to": "west"}}})));
    east.apply(export(Some(CREATED)));
    let restricted = |clusters: &str| service("10.96.7.20", &json!({"mesh.isthmus.io/export-to": clusters}));
    east.apply(service("10.96.7.20", &json!({})));
    let keys = |written: Vec<(String, Option<String>)>| {
        let sign = |value: &Option<String>| if value.is_some() { '+' } else { '-' };
        written.iter().map(|(key, value)| format!("{}{}", sign(value), key.replace(KEY, "*"))).collect::<Vec<_>>()
    };
    assert_eq!(keys(written(&mut east)), ["+isthmus/v1/audience/east/*", "+isthmus/v1/audience/west/*"]);
    east.apply(restricted("south"));
    let moved = keys(written(&mut east));
    assert_eq!(moved, ["+isthmus/v1/audience/south/*", "-isthmus/v1/audience/west/*"]);
}
