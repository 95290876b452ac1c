//! Compaction under a connected Cilium, and under one that is away.

use super::relay::Relay;
use super::steps::Step;
use super::{Name, West, program};
use crate::harness::{GLOBAL, Server, global_service, node, pod, until};

/// All that is followed, but for the heartbeat: nothing happens in these by itself.
const QUIET: [&str; 7] = ["config", "endpointslices", "identities", "ip", "nodes", "services", "synced"];
const SERVICE: &str = "cilium/state/services/v1/east/shop/cart";
const SLICE: &str = "cilium/state/endpointslices/v1/east/shop/cart-x";
const ADDRESS: &str = "cilium/state/ip/v1/default/10.7.0.2";

async fn east() -> Server {
    let east = Server::start("east", 7).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    east.write("pod.yaml", &pod("cart", "10.7.0.2", "n1"));
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    east.ready().await;
    east
}

/// Forgets all history, and returns the revision that is left.
async fn compact(east: &Server) -> i64 {
    let mut admin = east.etcd(&east.admin_leaf()).await;
    let revision = admin.get(ADDRESS, None).await.unwrap().header().unwrap().revision();
    admin.compact(revision, None).await.unwrap();
    revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_costs_who_is_current_nothing_even_when_its_connection_breaks() {
    let Some(program) = program() else { return };
    let east = east().await;
    let west = West::joined(&east, program).await;
    let relay = Relay::to(east.app.etcd).await;
    let mut cilium = west.cilium(&east, &[relay.address], Name::RemoteWest, &[]);
    cilium.synced().await;
    // A watch that is not there yet would begin before the compaction.
    cilium.until_each("standing watch", &QUIET, |step| step.is("progress")).await;

    let compacted = compact(&east).await;
    // What nothing happens in is told that nothing has happened.
    cilium.until_each("progress", &QUIET, |step| step.is("progress") && step.revision >= compacted).await;
    relay.cut();
    relay.lead_to(east.app.etcd);
    cilium.until("new stream", |step| step.is("stream")).await;
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.3", GLOBAL));
    cilium.until("change", |step| step.is_event("modify", SERVICE) && !step.listed).await;
    let cilium = cilium.end().await;
    // Between the cut and the way back a dial may find nobody behind the relay, and is made again.
    assert!(cilium.count("dialed") >= 2, "the connection did break");
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    east.app.stop().await;
    west.server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_behind_a_compaction_is_told_so_and_lists_each_resource_once() {
    let Some(program) = program() else { return };
    let east = east().await;
    let west = West::joined(&east, program).await;
    let relay = Relay::to(east.app.etcd).await;
    let mut cilium = west.cilium(&east, &[relay.address], Name::RemoteWest, &[]);
    cilium.synced().await;

    relay.cut();
    let from = cilium.told.len();
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.3", GLOBAL));
    std::fs::remove_file(east.manifests().join("pod.yaml")).unwrap();
    let mut admin = east.etcd(&east.admin_leaf()).await;
    until("both changes", || {
        let mut admin = admin.clone();
        async move {
            let service = admin.get(SERVICE, None).await.unwrap();
            let address = admin.get(ADDRESS, None).await.unwrap();
            let is_changed = service.kvs()[0].value_str().unwrap().contains("10.7.0.3");
            (is_changed && address.kvs().is_empty()).then_some(())
        }
    })
    .await;
    // So that the compaction is after the last of them.
    admin.put("test/last", "", None).await.unwrap();
    compact(&east).await;
    relay.lead_to(east.app.etcd);

    let all = [&QUIET[..], &["heartbeat"]].concat();
    let listed = |step: &Step| step.is("listed") || step.is("config");
    cilium.until_each("listing", &all, listed).await;
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.4", GLOBAL));
    let is_next = |step: &Step| step.is("event") && step.kind == "modify" && !step.listed;
    cilium.until_each("next change", &["services", "endpointslices"], is_next).await;
    let cilium = cilium.end().await;
    for resource in all {
        let reasons: Vec<_> =
            cilium.told.iter().filter(|told| told.is_of("relist", resource)).map(|told| &told.reason).collect();
        assert_eq!(reasons, ["etcdserver: mvcc: required revision has been compacted"], "{resource}");
    }
    let changes = cilium.changes(from).into_iter();
    let mut changes: Vec<_> = changes.map(|told| (told.kind.as_str(), told.key.as_str(), told.listed)).collect();
    changes.sort_unstable();
    let modified = |key| [("modify", key, false), ("modify", key, true)];
    assert_eq!(changes, [&[("delete", ADDRESS, true)], &modified(SLICE)[..], &modified(SERVICE)].concat());
    assert_eq!(cilium.count("reconnect"), 0, "the connection is the library's to make again");
    east.app.stop().await;
    west.server.app.stop().await;
}
