//! What a remote cluster may not read.

use std::collections::BTreeSet;

use etcd_client::{GetOptions, WatchOptions};
use tonic::Code;

use super::{Name, West, program};
use crate::harness::{PATIENCE, Server, node, pod};

const DENIED: &str = "etcdserver: permission denied";
/// A mirror, other clusters' configurations and canaries, and what the mesh keeps for itself.
const FORBIDDEN: [&str; 7] = [
    "cilium/cache/",
    "cilium/cluster-config/",
    "cilium/synced/west/",
    "isthmus/v1/",
    "isthmus/v1/tokens/",
    "isthmus/v1/peers/",
    "isthmus/v1/local/",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_remote_clusters_is_refused_in_etcds_words_and_the_connection_goes_on() {
    let Some(program) = program() else { return };
    let east = Server::start("east", 7).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    east.ready().await;
    let west = West::joined(&east, program).await;
    for name in [Name::Remote, Name::RemoteWest] {
        let also = format!("-also={},isthmus/v1/export/", FORBIDDEN.join(","));
        let mut cilium = west.cilium(&east, &[east.app.etcd], name, &[&also]);
        let mut unanswered: BTreeSet<_> = FORBIDDEN.into_iter().chain(["isthmus/v1/export/"]).collect();
        cilium
            .until("answer to every request", |step| {
                if step.is("failed") || step.is("listed") {
                    unanswered.remove(step.resource.as_str());
                }
                unanswered.is_empty()
            })
            .await;
        // An address that is written before it is listed would be listed.
        if cilium.count("synced") == 0 {
            cilium.synced().await;
        }
        let (own, ip) = match name {
            Name::Remote => ("common", "10.7.0.2"),
            Name::RemoteWest => ("own", "10.7.0.3"),
        };
        east.write(&format!("{own}.yaml"), &pod(own, ip, "n1"));
        let key = format!("cilium/state/ip/v1/default/{ip}");
        cilium.until("address", |step| step.is_event("create", &key) && !step.listed).await;
        let cilium = cilium.end().await;
        let failed: Vec<_> = cilium.told.iter().filter(|told| told.is("failed")).collect();
        assert!(failed.iter().all(|told| told.reason == DENIED), "{failed:#?}");
        let denied: BTreeSet<_> = failed.iter().map(|told| told.resource.as_str()).collect();
        assert_eq!(denied, BTreeSet::from(FORBIDDEN), "{name:?}");
        let connections = ["dialed", "stream", "reconnect"].map(|step| cilium.count(step));
        assert_eq!(connections, [1, 1, 0], "{name:?}");

        by_code(&east, &west, name).await;
    }
    east.app.stop().await;
    west.server.app.stop().await;
}

/// The codes, which Cilium's library does not show, and watches, which Cilium would not make of what it could not list.
async fn by_code(east: &Server, west: &West, name: Name) {
    let mut client = east.etcd(&west.leaf(name)).await;
    for prefix in FORBIDDEN {
        let refused = client.get(prefix, Some(GetOptions::new().with_prefix())).await.unwrap_err();
        let etcd_client::Error::GRpcStatus(status) = refused else { panic!("{refused}") };
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, DENIED), "{name:?}, {prefix}");
        let mut watch = client.watch(prefix, Some(WatchOptions::new().with_prefix())).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time").unwrap().unwrap();
        assert_eq!((answer.canceled(), answer.cancel_reason()), (true, DENIED), "{name:?}, {prefix}");
    }
    let other = client.get("cilium/cluster-config/west", None).await.unwrap_err();
    assert!(other.to_string().contains(DENIED), "{other}");
    client.get("cilium/cluster-config/east", None).await.expect("its own line in the table");
}
