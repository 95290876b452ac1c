//! A peer that says what it may not, of every kind that there is: each key is left out alone and named, and nothing else is.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_client::GetOptions;
use federation::contract::endpoint_slice::SliceName;
use federation::contract::{EndpointSliceValue, keys};
use mesh_proto::v1;
use mesh_types::{ClusterId, ClusterName, ServiceName};

use crate::harness::{GLOBAL, Server, global_service, node, pod, until};
use crate::members::Plan;

const NODE: &str =
    r#"{"Name":"x1","Cluster":"west","IPAddresses":[{"Type":"InternalIP","IP":"192.0.2.9"}],"ClusterID":2}"#;
const LABELS: &str = "k8s:app=x;k8s:io.cilium.k8s.policy.cluster=west;";
const IP: &str = r#"{"IP":"10.2.0.99","HostIP":"192.0.2.1","ID":132000}"#;
const SERVICE: &str = r#"{"cluster":"west","namespace":"shop","name":"x1","frontends":{"10.102.0.9":{"p":{"Protocol":"TCP","Port":1}}},"backends":{"10.2.0.99":{"p":{"Protocol":"TCP","Port":1}}},"shared":true,"clusterID":2}"#;
const EXPORT: &str = r#"{"cluster":"west","name":"x1","namespace":"shop","exportCreationTimestamp":"2026-03-04T05:06:07Z","ports":[],"type":"Headless","sessionAffinity":"None"}"#;

/// What west says: kind, key of its store, value, and the rule that it breaks.
type Said = (&'static str, String, Vec<u8>, &'static str);

fn slice(name: &str, change: impl FnOnce(&mut EndpointSliceValue)) -> Vec<u8> {
    let (cluster, service) = (ClusterName::new("west").unwrap(), ServiceName::new("shop", "x1"));
    let named = SliceName { cluster: &cluster, cluster_id: ClusterId::new(2).unwrap(), service: &service, slice: name };
    let mut value = EndpointSliceValue::from_backends(named, &[]).unwrap();
    change(&mut value);
    value.encode()
}

/// Of every kind: another cluster's name or id, garbage, what is too long, what lies outside of its prefixes and ranges.
fn hostile() -> Vec<Said> {
    let long = "x".repeat(254);
    let of_east = |text: &str| text.replace("west", "east").into_bytes();
    let mut said: Vec<Said> = Vec::new();
    let mut add = |kind: &'static str, key: &str, value: Vec<u8>, rule| {
        let prefix = match kind {
            "nodes" => "cilium/state/nodes/v1/west/",
            "identities" => "cilium/state/identities/v1/id/",
            "ip" => "cilium/state/ip/v1/default/",
            "services" => "cilium/state/services/v1/west/",
            "serviceexports" => "cilium/state/serviceexports/v1/west/",
            _ => "cilium/state/endpointslices/v1/west/",
        };
        said.push((kind, format!("{prefix}{key}"), value, rule));
    };
    add("nodes", "x1", of_east(NODE), "own-cluster");
    add("nodes", "x2", NODE.replace("x1", "x2").replace(":2}", ":1}").into(), "own-cluster-id");
    add("nodes", "x3", "\u{0}{".into(), "form");
    add("nodes", &long, NODE.replace("x1", &long).into(), "form");
    add("nodes", "x4", NODE.replace("x1", "x4").replace("192.0.2.9", "192.0.1.9").into(), "node-address");
    add("nodes", "x5", NODE.into(), "key-names-value");
    add("identities", "132001", of_east(LABELS), "policy-cluster-label");
    add("identities", "70000", LABELS.into(), "identity-range");
    add("identities", "4294967296", LABELS.into(), "identity-range");
    add("identities", "132002", vec![0xff, 0xfe], "form");
    add("ip", "10.2.0.99", IP.replace("132000", "70000").into(), "identity-range");
    add("ip", "10.1.0.99", IP.replace("10.2.0.99", "10.1.0.99").into(), "pod-address");
    add("ip", "10.2.0.98", IP.into(), "key-names-value");
    add("ip", "10.2.0.97", "[1]".into(), "form");
    let named = IP.replace("\"ID\"", &format!("\"K8sPodName\":\"{long}\",\"ID\"")).replace("10.2.0.99", "10.2.0.96");
    add("ip", "10.2.0.96", named.into(), "form");
    add("services", "shop/x1", of_east(SERVICE), "own-cluster");
    add("services", "shop/x2", SERVICE.replace("x1", "x2").replace(":2}", ":1}").into(), "own-cluster-id");
    add("services", "shop/x3", "{".into(), "form");
    add("services", &format!("shop/{long}"), SERVICE.replace("x1", &long).into(), "form");
    add("services", "shop/x4", SERVICE.replace("x1", "x4").replace("10.2.0.99", "10.1.0.9").into(), "backend-address");
    add(
        "services",
        "shop/x5",
        SERVICE.replace("x1", "x5").replace("10.102.0.9", "10.101.0.9").into(),
        "frontend-address",
    );
    add("services", "shop/x6", SERVICE.replace("x1", "x6").replace("\"Port\":1", "\"Port\":65536").into(), "form");
    add("serviceexports", "shop/x1", of_east(EXPORT), "own-cluster");
    add("serviceexports", "shop/x2", EXPORT.into(), "key-names-value");
    add("serviceexports", "shop/x3", b"\"".to_vec(), "form");
    add("serviceexports", &format!("shop/{long}"), EXPORT.replace("x1", &long).into(), "form");
    let port = EXPORT.replace("x1", "x4").replace("[]", r#"[{"port":65536}]"#);
    add("serviceexports", "shop/x4", port.into(), "form");
    add("endpointslices", "shop/x1", slice("x1", |slice| slice.cluster = "east".into()), "own-cluster");
    add("endpointslices", "shop/x2", slice("x2", |slice| slice.cluster_id = 1), "own-cluster-id");
    add("endpointslices", "shop/x3", b"{}".to_vec(), "form");
    add("endpointslices", &format!("shop/{long}"), slice(&long, |_| ()), "form");
    add("endpointslices", "shop/x5", slice("x4", |_| ()), "key-names-value");
    said
}

const KINDS: [&str; 6] = ["identities", "nodes", "ip", "services", "serviceexports", "endpointslices"];

async fn west() -> Server {
    let west = Server::start("west", 2).await;
    west.write("node.yaml", &node("w1", "192.0.2.1", "10.2.0.0/24"));
    west.write("pod.yaml", &pod("cart", "10.2.0.2", "w1"));
    west.write("service.yaml", &global_service("10.102.0.1", "10.2.0.2", GLOBAL));
    west.ready().await;
    west
}

async fn peer(server: &Server) -> Option<v1::PeerStatus> {
    server.status().await.peers.into_iter().next()
}

async fn mirrored(server: &Server) -> BTreeSet<String> {
    let mut admin = server.etcd(&server.admin_leaf()).await;
    let found = admin.get("cilium/cache/", Some(GetOptions::new().with_prefix())).await.unwrap();
    found.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

async fn everything_hostile_is_left_out_and_named(replicas: &[&Server]) {
    let (east, west) = (replicas[0], west().await);
    east.connect(&west).await.unwrap();
    let live = || async { peer(east).await.filter(|peer| peer.state == "Live") };
    let before = until("a live peer", live).await;
    assert!(before.resources.iter().all(|kind| kind.rejected == 0), "{before:?}");
    let good = mirrored(east).await;
    let mut admin = west.etcd(&west.admin_leaf()).await;
    let mut rejected = std::collections::BTreeMap::new();
    for (kind, key, value, rule) in hostile() {
        admin.put(key.clone(), value, None).await.unwrap();
        let count = rejected.entry(kind).or_insert(0);
        *count += 1;
        // One after the other, so that each is the last one of its kind.
        let said = until(&key, || async {
            let peer = peer(east).await?;
            let of_kind = peer.resources.into_iter().find(|found| found.resource == kind)?;
            (of_kind.rejected == *count).then_some(of_kind.last_rejection)
        })
        .await;
        let rest = key.splitn(5, '/').last().unwrap();
        let rest = if ["ip", "identities"].contains(&kind) { rest } else { rest.split_once('/').unwrap().1 };
        let rest = rest.trim_start_matches("default/").trim_start_matches("id/");
        let named = format!("in {kind}/{}", &rest[..rest.len().min(200)]);
        assert!(said.contains(&named) && said.contains(&format!(": {rule}: ")), "{key}: {said}");
        assert!(said.starts_with("cluster west may not say ") && said.len() < 1200, "{said}");
    }
    assert_eq!(rejected.len(), KINDS.len());

    // What is not of the peer's own part of the key space is not even looked at.
    let elsewhere = [
        ("cilium/state/nodes/v1/east/x1", NODE),
        ("cilium/state/services/v1/east/shop/x1", SERVICE),
        ("cilium/synced/east/cilium/state/nodes/v1", "now"),
        ("cilium/synced/west/cilium/state/pods/v1", "\u{1}"),
        ("cilium/synced/west/cilium/state/nodes/v1", "garbage"),
        ("cilium/.heartbeat", "garbage"),
        ("cilium/cluster-config/east", r#"{"id":1}"#),
        ("isthmus/v1/export/clock", "{"),
    ];
    for (key, value) in elsewhere {
        admin.put(key, value, None).await.unwrap();
    }
    // A good one after them all, to wait for.
    west.write("more.yaml", &pod("late", "10.2.0.77", "w1"));
    let late = "cilium/cache/ip/v1/west/10.2.0.77".to_owned();
    for replica in replicas {
        let now =
            until("a good one", || async { Some(mirrored(replica).await).filter(|keys| keys.contains(&late)) }).await;
        let new: Vec<&String> = now.difference(&good).filter(|key| !key.contains("/identities/")).collect();
        assert_eq!(new, [&late]);
        assert!(good.is_subset(&now), "what it may say stays");
    }
    let now = until("a live peer", live).await;
    assert_eq!((now.reconnects, now.relists), (0, 0), "none of it ended the session");

    // Its configuration is refused as a whole, with what was mirrored kept: another id, garbage, too many clusters.
    let config = keys::cluster_config(&ClusterName::new("west").unwrap());
    let good = mirrored(east).await;
    for (value, why) in [
        (r#"{"id":1,"capabilities":{"maxConnectedClusters":255}}"#, "may not say 1 in cluster-config: own-cluster-id"),
        (
            r#"{"id":2,"capabilities":{"maxConnectedClusters":511}}"#,
            "may not say 511 in cluster-config: max-connected-clusters",
        ),
        ("\u{0}", "in cluster-config: form"),
    ] {
        // Its own exporter puts it right at once, so it is said until it was heard.
        until(why, || async {
            admin.clone().put(config.clone(), Bytes::from_static(value.as_bytes()), None).await.unwrap();
            peer(east).await.filter(|peer| peer.reason.contains(why)).map(drop)
        })
        .await;
    }
    until("a live peer", live).await;
    assert_eq!(mirrored(east).await, good);
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_every_kind_what_a_peer_may_not_say_is_left_out_alone_and_named() {
    let east = Server::start("east", 1).await;
    east.ready().await;
    Box::pin(everything_hostile_is_left_out_and_named(&[&east])).await;
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_leave_out_the_same() {
    let replicas = Plan::new(3).start_three().await;
    for replica in &replicas {
        replica.ready().await;
    }
    Box::pin(everything_hostile_is_left_out_and_named(&replicas.each_ref())).await;
    for replica in replicas {
        replica.app.stop().await;
    }
}
