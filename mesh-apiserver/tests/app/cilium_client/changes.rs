//! What comes over the watches of a connected Cilium.

use super::relay::Relay;
use super::steps::Step;
use super::{Name, West, program};
use crate::harness::{GLOBAL, Server, global_service, node, pod};

const SERVICE: &str = "cilium/state/services/v1/east/shop/cart";
const SLICE: &str = "cilium/state/endpointslices/v1/east/shop/cart-x";
const ADDRESS: &str = "cilium/state/ip/v1/default/10.7.0.2";
const CONFIG: &str = "cilium/cluster-config/east";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_one_event_and_so_is_a_deletion() {
    const CHANGES: usize = 10;
    let Some(program) = program() else { return };
    let east = Server::start("east", 7).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    east.ready().await;
    let west = West::joined(&east, program).await;
    let mut cilium = west.cilium(&east, &[east.app.etcd], Name::RemoteWest, &[]);
    cilium.synced().await;

    let from = cilium.told.len();
    for i in 1..=CHANGES {
        let backend = format!("10.7.0.{}", i + 2);
        east.write("service.yaml", &global_service("10.107.0.1", &backend, GLOBAL));
        let is_it = |step: &Step| step.is_event("modify", SERVICE) && step.value.contains(&backend);
        cilium.until("change", is_it).await;
    }
    // Its slice changes as often, by another watch.
    let is_service = |told: &&Step| told.resource == "services";
    let changes: Vec<_> = cilium.changes(from).into_iter().filter(is_service).cloned().collect();
    assert!(changes.iter().all(|told| told.key == SERVICE && !told.listed && !told.unchanged), "{changes:#?}");
    let versions: Vec<_> = changes.iter().map(|told| usize::try_from(told.version).unwrap()).collect();
    assert_eq!(versions, (2..2 + CHANGES).collect::<Vec<_>>(), "none is missing, none comes twice");
    assert!(changes.is_sorted_by(|a, b| a.revision < b.revision), "{changes:#?}");

    // A number is there before the address that means it.
    let from = cilium.told.len();
    east.write("pod.yaml", &pod("cart", "10.7.0.2", "n1"));
    cilium.until_each("event", &["identities", "ip"], |step| step.is("event")).await;
    let revision = |resource| cilium.changes(from).iter().find(|told| told.resource == resource).unwrap().revision;
    assert!(revision("identities") <= revision("ip"), "{:#?}", cilium.changes(from));

    let from = cilium.told.len();
    std::fs::remove_file(east.manifests().join("service.yaml")).unwrap();
    cilium.until("deletion", |step| step.is_event("delete", SERVICE)).await;
    std::fs::remove_file(east.manifests().join("pod.yaml")).unwrap();
    cilium.until("deletion", |step| step.is_event("delete", ADDRESS)).await;
    let cilium = cilium.end().await;
    let deleted = cilium.changes(from).into_iter().filter(|told| told.kind == "delete" && told.key != SLICE);
    let deleted: Vec<_> = deleted.map(|told| told.key.as_str()).collect();
    assert_eq!(deleted, [SERVICE, ADDRESS]);
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    east.app.stop().await;
    west.server.app.stop().await;
}

/// Nothing in a server's configuration can change: a version that says more stands for one that the server is replaced by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_change_of_the_cluster_config_is_told_and_taken_back_at_once() {
    let Some(program) = program() else { return };
    let east = Server::start("east", 7).await;
    east.ready().await;
    let west = West::joined(&east, program).await;
    let relay = Relay::to(east.app.etcd).await;
    let mut cilium = west.cilium(&east, &[relay.address], Name::Remote, &[]);
    let own = cilium.until("configuration", |step| step.is("config")).await.value;
    cilium.synced().await;

    let more = own.replace(r#""serviceExportsEnabled":true"#, r#""serviceExportsEnabled":false"#);
    let mut admin = east.etcd(&east.admin_leaf()).await;
    for foreign in [Some(more.clone()), None] {
        let (is_put, own) = (foreign.is_some(), own.clone());
        match foreign {
            Some(text) => drop(admin.put(CONFIG, text, None).await.unwrap()),
            None => drop(admin.delete(CONFIG, None).await.unwrap()),
        }
        let is_foreign = |step: &Step| {
            if is_put { step.is_event("modify", CONFIG) && step.value == more } else { step.is_event("delete", CONFIG) }
        };
        cilium.until("foreign change", is_foreign).await;
        // Its exporter says at once what is so.
        let is_own = |step: &Step| step.is("event") && step.key == CONFIG && step.value == own;
        cilium.until("change back", is_own).await;
    }
    let mut later = west.cilium(&east, &[east.app.etcd], Name::RemoteWest, &[]);
    let read = later.until("configuration", |step| step.is("config")).await;
    assert_eq!(read.value, own);
    later.end().await;

    drop(admin);
    let east = east.restart().await;
    relay.lead_to(east.app.etcd);
    cilium.until("new stream", |step| step.is("stream")).await;
    let cilium = cilium.end().await;
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    east.app.stop().await;
    west.server.app.stop().await;
}
