//! What comes over the watches of a connected Cilium.

use super::relay::Relay;
use super::steps::Step;
use super::{Name, West, program};
use crate::harness::{GLOBAL, Server, global_service, node, pod};

const SERVICE: &str = "cilium/state/services/v1/east/shop/cart";
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
    let changes: Vec<_> = cilium.changes(from).into_iter().cloned().collect();
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
    let deleted: Vec<_> = cilium.changes(from).iter().map(|told| (told.kind.as_str(), told.key.as_str())).collect();
    assert_eq!(deleted, [("delete", SERVICE), ("delete", ADDRESS)]);
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    east.app.stop().await;
    west.server.app.stop().await;
}

/// A server writes its configuration when it starts, and nothing in it can change: so a version that says more stands
/// for one that the server is replaced by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_cluster_config_is_seen_by_who_watches_its_key_and_by_who_reads_it_again() {
    let Some(program) = program() else { return };
    let east = Server::start("east", 7).await;
    east.ready().await;
    let west = West::joined(&east, program).await;
    let relay = Relay::to(east.app.etcd).await;
    let mut cilium = west.cilium(&east, &[relay.address], Name::Remote, &[]);
    let own = cilium.until("configuration", |step| step.is("config")).await.value;
    cilium.synced().await;

    let more = own.replace("255", r#"255,"serviceExportsEnabled":false"#);
    let mut admin = east.etcd(&east.admin_leaf()).await;
    admin.put(CONFIG, more.clone(), None).await.unwrap();
    cilium.until("change", |step| step.is_event("modify", CONFIG) && step.value == more).await;
    let mut later = west.cilium(&east, &[east.app.etcd], Name::RemoteWest, &[]);
    let read = later.until("configuration", |step| step.is("config")).await;
    assert_eq!(read.value, more);
    later.end().await;

    drop(admin);
    let east = east.restart().await;
    relay.lead_to(east.app.etcd);
    cilium.until("change back", |step| step.is_event("modify", CONFIG) && step.value == own).await;
    let cilium = cilium.end().await;
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    east.app.stop().await;
    west.server.app.stop().await;
}
