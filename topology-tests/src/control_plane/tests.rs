use std::net::Ipv4Addr;

use serde_json::json;

use super::*;
use crate::manifest::{Container, NamedPort, PodTemplate};
use crate::topology::Topology;

struct Fixture {
    folder: tempfile::TempDir,
    plane: ControlPlane,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let cluster = &Topology::pair().clusters[0];
    let plane = ControlPlane::new(cluster, folder.path().join("mesh"), folder.path().join("half")).unwrap();
    Fixture { folder, plane }
}

fn read(fixture: &Fixture, file: &str) -> Option<Value> {
    let text = std::fs::read(fixture.folder.path().join("mesh").join(file)).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

fn service(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" }, "spec": spec })
}

fn pod(name: &str, number: u16, is_ready: bool) -> PodRecord {
    let port = NamedPort { name: "http".into(), container_port: number, protocol: "TCP".into() };
    PodRecord {
        cluster: "cluster-a".into(),
        node: "a1".into(),
        host_ip: Ipv4Addr::new(172, 30, 1, 11),
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        owner: ("Deployment".into(), "web".into()),
        phase: Phase::Running,
        is_ready,
        ip: Some(Ipv4Addr::new(10, 1, 1, 2)),
        pid: None,
        restarts: 0,
        netns: String::new(),
        cgroup: PathBuf::new(),
        template: PodTemplate {
            labels: [("app".to_owned(), "web".to_owned())].into(),
            containers: vec![Container { ports: vec![port], ..Container::default() }],
            ..PodTemplate::default()
        },
    }
}

fn web() -> Value {
    service(
        "web",
        &json!({ "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] }),
    )
}

#[test]
fn a_service_keeps_the_cluster_ip_it_got_and_a_headless_one_gets_none() {
    let fixture = fixture();
    let headless = service("headless", &json!({ "clusterIP": "None" }));
    fixture.plane.put_objects(&[], &[], &[web(), headless]).unwrap();
    let given = fixture.plane.service("shop", "web").unwrap()["spec"]["clusterIP"].clone();
    assert_eq!(given, "10.101.0.10");
    fixture.plane.put_objects(&[], &[], &[service("aaa", &json!({})), web()]).unwrap();
    assert_eq!(fixture.plane.service("shop", "web").unwrap()["spec"]["clusterIP"], given);
    assert_eq!(fixture.plane.service("shop", "headless").unwrap()["spec"]["clusterIP"], "None");
}

#[test]
fn a_named_target_port_is_resolved_pod_by_pod() {
    let fixture = fixture();
    fixture.plane.put_objects(&[], &[], &[web()]).unwrap();
    fixture.plane.put_pod(pod("one", 8080, true)).unwrap();
    fixture.plane.put_pod(pod("two", 9090, true)).unwrap();
    let first = read(&fixture, "endpointslice_shop_web-0.json").unwrap();
    let second = read(&fixture, "endpointslice_shop_web-1.json").unwrap();
    assert_eq!((&first["ports"][0]["port"], &second["ports"][0]["port"]), (&json!(8080), &json!(9090)));
    assert_eq!(first["metadata"]["labels"]["kubernetes.io/service-name"], "web");
}

#[test]
fn an_unready_pod_stays_in_the_slice_and_says_so() {
    let fixture = fixture();
    fixture.plane.put_objects(&[], &[], &[web()]).unwrap();
    fixture.plane.put_pod(pod("one", 8080, false)).unwrap();
    let slice = read(&fixture, "endpointslice_shop_web-0.json").unwrap();
    assert_eq!(slice["endpoints"][0]["conditions"], json!({ "ready": false, "serving": false, "terminating": false }));
    let conditions = read(&fixture, "pod_shop_one.json").unwrap()["status"]["conditions"].clone();
    assert!(conditions.as_array().unwrap().contains(&json!({ "type": "Ready", "status": "False" })));
}

#[test]
fn what_is_deleted_leaves_the_folder() {
    let fixture = fixture();
    fixture.plane.put_objects(&[], &[], &[web()]).unwrap();
    fixture.plane.put_pod(pod("one", 8080, true)).unwrap();
    fixture.plane.delete_pod("shop", "one").unwrap();
    assert_eq!(read(&fixture, "endpointslice_shop_web-0.json").unwrap()["endpoints"], json!([]));
    fixture.plane.delete_service("shop", "web").unwrap();
    for gone in ["pod_shop_one.json", "service_shop_web.json", "endpointslice_shop_web-0.json", "namespace_shop.json"] {
        assert!(read(&fixture, gone).is_none(), "{gone}");
    }
    assert!(read(&fixture, "node_a2.json").is_some());
}
