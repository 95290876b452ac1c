use jiff::Timestamp;
use mesh_proto::v1;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_900_000_000).unwrap()
}

fn ago(millis: i64) -> u64 {
    u64::try_from((now().as_millisecond() - millis) * 1_000_000).unwrap()
}

fn resource(resource: &str, keys: u32, rejected: u64) -> v1::ResourceStatus {
    v1::ResourceStatus {
        resource: resource.into(),
        synced: true,
        keys,
        rejected,
        not_imported: 0,
        last_not_imported: String::new(),
        last_rejection: if rejected > 0 {
            "cilium/state/ip/v1/default/10.1.1.7: outside the prefixes of cluster-b".into()
        } else {
            String::new()
        },
    }
}

fn agent(node: &str) -> v1::AgentStatus {
    let path = |node: &str, up| v1::PathStatus {
        cluster: "cluster-b".into(),
        node: node.into(),
        address: vec![172, 30, 2, 12].into(),
        up,
        rtt_micros: 410,
        since_unix_nanos: ago(12_000),
    };
    v1::AgentStatus {
        node: node.into(),
        connected: true,
        since_unix_nanos: ago(187_000),
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        wireguard_backend: "userspace".into(),
        report: Some(v1::ReportStatusRequest {
            realized_revision: 1234,
            paths: vec![path("b1", true), path("b2", true)],
            tunnel_up: true,
            endpoints: 6,
            services: 5,
            ..Default::default()
        }),
    }
}

fn status() -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        cluster: "cluster-a".into(),
        cluster_id: 1,
        uuid: "5e9f1f6e".into(),
        version: "0.1.0".into(),
        store: Some(v1::StoreStatus { cluster_id: 9, revision: 1234, keys: 560, replicas: 1, ready_replicas: 1 }),
        source: Some(v1::SourceStatus {
            kind: "manifests".into(),
            location: "/run/isthmus/manifests".into(),
            objects: 38,
            ..Default::default()
        }),
        peers: vec![v1::PeerStatus {
            name: "cluster-b".into(),
            id: 2,
            state: "Live".into(),
            since_unix_nanos: ago(187_000),
            last_heartbeat_unix_nanos: ago(420),
            resources: vec![resource("nodes", 2, 0), resource("ip", 14, 0)],
            paths: Some(v1::PathsStatus { state: "up".into(), ..Default::default() }),
            ..Default::default()
        }],
        agents: vec![agent("a1"), agent("a2")],
        services: 5,
        global_services: 2,
        endpoints: 26,
        identities: 9,
        ..Default::default()
    }
}

fn text(status: v1::GetStatusResponse) -> String {
    cluster(&ClusterReport::new("cluster-a", status, now()), now(), false)
}

#[test]
fn a_cluster_that_is_well() {
    assert_eq!(text(status()), include_str!("golden/well.txt"));
}

#[test]
fn a_source_that_cannot_be_followed_says_since_when_and_why() {
    let mut status = status();
    let source = status.source.as_mut().unwrap();
    source.trouble = "the API server https://10.0.0.1:6443 cannot be reached".into();
    source.trouble_since_unix_nanos = ago(90_000);
    let told = "source: not followed for 1m30s, what was read before counts on: the API server";
    let text = text(status);
    assert!(text.contains(told) && text.starts_with("cluster-a (id 1)  degraded"), "{text}");
}

#[test]
fn a_cluster_that_is_not_well_says_what_is_not_within_100_columns() {
    let mut status = status();
    let peer = &mut status.peers[0];
    peer.state = "Stale".into();
    peer.reason =
        "no heartbeat for 12s; the datapath still answers, so its backends are kept until the grace ends".into();
    peer.since_unix_nanos = ago(4_200);
    peer.resources[1] = resource("ip", 14, 3);
    status.agents[0].connected = false;
    status.agents[0].report = None;
    let report = status.agents[1].report.as_mut().unwrap();
    report.tunnel_up = false;
    report.paths[1].up = false;
    status.source.as_mut().unwrap().location = "/a-very-long-folder".repeat(8);
    status.source.as_mut().unwrap().errors =
        vec![v1::ObjectError { object: "shop.yaml#3".into(), error: "Service shop/cart: affinity \"nearest\"".into() }];
    let text = text(status);
    assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
    assert_eq!(text, include_str!("golden/degraded.txt"));
}
