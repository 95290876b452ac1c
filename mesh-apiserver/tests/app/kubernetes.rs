//! The whole server on a real kube-apiserver: what it reads, and what it does while it cannot.
//!
//! `ISTHMUS_KUBE_APISERVER` names a program to use instead of the one that `cargo xtask kube-apiserver` builds. Without
//! either these tests are skipped.

#![expect(clippy::print_stdout, reason = "what a test prints is its report")]

mod accounts;
mod api;
mod apiserver;
mod authority;
mod bearer;
mod crd;
mod enrolment;
mod gaps;
mod mcs;
mod objects;
mod peerings;
mod rights;
mod scale;

use std::collections::BTreeMap;

use etcd_client::GetOptions;
use federation::contract::EndpointSliceValue;
use mesh_proto::v1;
use serde_json::json;

use self::apiserver::{Apiserver, Kube};
use self::objects::{PODS, grant, host_pod, namespace, node, pod, service, slice};
use crate::harness::{Server, until};

/// Each starts three servers.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn flags(kube: &Kube, server: &Apiserver) -> Vec<String> {
    vec!["--source=kubernetes".to_owned(), format!("--kubeconfig={}", kube.kubeconfig(server.port).display())]
}

/// The node and the pod of Service `shop/cart`, which is global.
async fn shop(server: &Apiserver) {
    grant(server).await;
    namespace(server, "shop").await;
    node(server, "n1", "192.0.1.1", Some("10.1.0.0/24")).await;
    pod(server, "cart", "n1", "10.1.0.2").await;
    service(server, "cart", "10.101.0.7", &json!({"mesh.isthmus.io/global": "true", "other.io/note": "x"})).await;
    let zones = json!({"forZones": [{"name": "z1"}]});
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    let endpoints = json!([
        {"addresses": ["10.1.0.2"], "nodeName": "n1", "zone": "z1", "hints": zones, "conditions": {"ready": true}},
        {"addresses": ["10.1.0.3"], "nodeName": "n1", "conditions": conditions},
    ]);
    slice(server, "cart", &endpoints).await;
}

/// Exported keys below `cilium/state/`, without what says when: values and revisions.
async fn exported(server: &Server) -> BTreeMap<String, (Vec<u8>, i64)> {
    let mut etcd = server.etcd(&server.admin_leaf()).await;
    let found = etcd.get("cilium/state/", Some(GetOptions::new().with_prefix())).await.unwrap();
    let pair =
        |kv: &etcd_client::KeyValue| (kv.key_str().unwrap().to_owned(), (kv.value().to_vec(), kv.mod_revision()));
    found.kvs().iter().map(pair).collect()
}

async fn until_exported(server: &Server, key: &str, is_there: bool) {
    let what = format!("{key} {}", if is_there { "exported" } else { "withdrawn" });
    until(&what, || async { (exported(server).await.contains_key(key) == is_there).then_some(()) }).await;
}

fn ip(address: &str) -> String {
    format!("cilium/state/ip/v1/default/{address}")
}

async fn source(server: &Server) -> v1::SourceStatus {
    server.status().await.source.expect("a source")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_an_api_server_become_keys_and_a_setting_that_is_none_is_named() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    shop(&apiserver).await;
    host_pod(&apiserver, "host", "n1", "192.0.1.1").await;
    node(&apiserver, "bare", "192.0.1.2", None).await;
    pod(&apiserver, "on-bare", "bare", "10.1.7.9").await;
    service(&apiserver, "odd", "10.101.0.8", &json!({"mesh.isthmus.io/affinity": "nearest"})).await;
    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    server.ready().await;

    let keys = exported(&server).await;
    let ips: Vec<&str> = keys.keys().filter_map(|key| key.strip_prefix("cilium/state/ip/v1/default/")).collect();
    assert_eq!(ips, ["10.1.0.2", "10.1.7.9"], "a host-network pod has no address of its own");
    let cart: serde_json::Value = serde_json::from_slice(&keys[&ip("10.1.0.2")].0).unwrap();
    assert_eq!((cart["HostIP"].as_str(), cart["K8sPodName"].as_str()), (Some("192.0.1.1"), Some("cart")));
    assert!(cart["NamedPorts"].to_string().contains("grpc"), "{cart}");
    let nodes: Vec<&str> = keys.keys().filter_map(|key| key.strip_prefix("cilium/state/nodes/v1/east/")).collect();
    assert_eq!(nodes, ["bare", "n1"]);
    let labels: Vec<String> = keys
        .iter()
        .filter(|(key, _)| key.starts_with("cilium/state/identities/v1/id/"))
        .map(|(_, (value, _))| String::from_utf8_lossy(value).into_owned())
        .collect();
    assert_eq!(labels.len(), 2);
    for part in ["k8s:app=cart", "k8s:io.cilium.k8s.namespace.labels.team=blue"] {
        assert!(labels.iter().any(|labels| labels.contains(part)), "{part} in {labels:?}");
    }
    let slice = EndpointSliceValue::decode(&keys["cilium/state/endpointslices/v1/east/shop/cart-x"].0).unwrap();
    let [ready, ending] = &slice.endpoints[..] else { panic!("two endpoints: {slice:?}") };
    assert_eq!((ready.zone.as_deref(), ready.conditions.ready), (Some("z1"), Some(true)));
    assert_eq!(ready.hints.as_ref().unwrap().for_zones[0].name, "z1");
    assert_eq!((ending.conditions.serving, ending.conditions.terminating), (Some(true), Some(true)));

    let status = until("the odd Service's error", || async {
        let status = source(&server).await;
        (!status.errors.is_empty()).then_some(status)
    })
    .await;
    assert_eq!((status.kind.as_str(), status.trouble.as_str()), ("kubernetes", ""));
    assert_eq!(status.location, format!("https://127.0.0.1:{}", apiserver.port));
    let error = &status.errors[0];
    assert_eq!(error.object, "Service shop/odd");
    assert!(
        error.error.starts_with("annotation mesh.isthmus.io/affinity: \"nearest\" is not an affinity"),
        "{error:?}"
    );

    // Objects that come, change and go, while it looks.
    pod(&apiserver, "late", "n1", "10.1.0.9").await;
    until_exported(&server, &ip("10.1.0.9"), true).await;
    apiserver.api.patch(&format!("{PODS}/late/status"), &json!({"status": {"phase": "Succeeded"}})).await;
    until_exported(&server, &ip("10.1.0.9"), false).await;
    apiserver.api.delete(&format!("{PODS}/on-bare")).await;
    until_exported(&server, &ip("10.1.7.9"), false).await;

    let before = exported(&server).await;
    let server = server.restart().await;
    server.ready().await;
    assert_eq!(exported(&server).await, before, "a restart writes nothing anew");
    server.app.stop().await;
}
