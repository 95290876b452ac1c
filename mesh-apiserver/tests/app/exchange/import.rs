//! Whose Services west takes: east offers `shop/cart` to everybody.

use etcd_client::{GetOptions, WatchOptions};
use mesh_proto::v1;

use super::{Mesh, namespace};
use crate::harness::{GLOBAL, PATIENCE, Server, global_service, until};

const MIRRORED: &str = "cilium/cache/services/v1/east/shop/cart";
const MIRRORED_ADDRESS: &str = "cilium/cache/ip/v1/east/10.1.0.9";

/// West's own Service of the name, which says whose it takes beside its own.
fn service(import_from: Option<&str>) -> String {
    let rule = import_from.map(|text| format!(", mesh.isthmus.io/import-from: \"{text}\""));
    global_service("10.102.0.1", "10.2.0.2", &format!("{GLOBAL}{}", rule.unwrap_or_default()))
}

fn namespace_from(import_from: &str) -> String {
    namespace(Some(import_from)).replace("export-to", "import-from")
}

async fn keys(server: &Server, prefix: &str) -> Vec<String> {
    let mut admin = server.etcd(&server.admin_leaf()).await;
    let answer = admin.get(prefix, Some(GetOptions::new().with_prefix().with_keys_only())).await.unwrap();
    answer.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

async fn until_mirrored(server: &Server, key: &str, is_there: bool) {
    until(key, || async { (keys(server, key).await.is_empty() != is_there).then_some(()) }).await;
}

/// Every key that was ever put below a prefix, from the store's whole history.
async fn ever_put(server: &Server, prefix: &str) -> Vec<String> {
    let mut admin = server.etcd(&server.admin_leaf()).await;
    admin.put(format!("{prefix}zzz"), "the end", None).await.unwrap();
    let options = WatchOptions::new().with_prefix().with_start_revision(1);
    let mut watch = admin.watch(prefix, Some(options)).await.unwrap();
    let mut put = Vec::new();
    loop {
        let answer = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time").unwrap().unwrap();
        for event in answer.events().iter().filter(|event| event.event_type() == etcd_client::EventType::Put) {
            let key = event.kv().unwrap().key_str().unwrap().to_owned();
            if key.ends_with("zzz") {
                return put;
            }
            put.push(key);
        }
    }
}

async fn peer(server: &Server, name: &str) -> v1::PeerStatus {
    until("peer", || async { server.status().await.peers.into_iter().find(|peer| peer.name == name) }).await
}

/// The server's own Service, as `meshctl get services` has it.
async fn own_row(server: &Server) -> Option<v1::ServiceRow> {
    let answer = server.admin().await.list_services(v1::ListRequest::default()).await.unwrap().into_inner();
    answer.services.into_iter().find(|row| row.service.as_ref().unwrap().cluster == server.name)
}

async fn backends(server: &Server) -> Vec<String> {
    own_row(server)
        .await
        .map(|row| row.backends.into_iter().map(|backend| backend.cluster).collect())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_never_enters_the_store_and_a_changed_rule_takes_effect_at_once() {
    let west_at_first = |west: &Server| west.write("service.yaml", &service(Some("south")));
    let mesh = Mesh::with("west, south", west_at_first).await;
    let (west, south) = (&mesh.west, &mesh.south);
    until_mirrored(west, MIRRORED_ADDRESS, true).await;
    until_mirrored(south, MIRRORED, true).await;
    until("live peer", || async { (peer(west, "east").await.state == "Live").then_some(()) }).await;
    assert_eq!(keys(west, MIRRORED).await, Vec::<String>::new());
    assert_eq!(backends(west).await, ["west"]);
    let services = peer(west, "east").await.resources.into_iter().find(|r| r.resource == "services").unwrap();
    assert_eq!((services.rejected, services.last_rejection.as_str()), (0, ""), "the peer did nothing wrong");
    assert!(services.not_imported > 0);
    assert_eq!(services.last_not_imported, "shop/cart");
    // A change over there is not taken either.
    let counted = services.not_imported;
    mesh.east.write("c-service.yaml", &global_service("10.101.0.77", "10.1.0.8", GLOBAL));
    until("another one left out", || async {
        let services = peer(west, "east").await.resources.into_iter().find(|r| r.resource == "services").unwrap();
        (services.not_imported > counted).then_some(())
    })
    .await;
    assert_eq!(ever_put(west, "cilium/cache/services/v1/east/").await, Vec::<String>::new());

    west.write("service.yaml", &service(Some("east")));
    until_mirrored(west, MIRRORED, true).await;
    until("backends of both", || async { (backends(west).await.len() == 2).then_some(()) }).await;
    west.write("service.yaml", &service(Some("none")));
    until_mirrored(west, MIRRORED, false).await;
    // The Namespace's rule counts for Services that have none of their own, and for those only.
    west.write("namespace.yaml", &namespace_from("east"));
    west.write("service.yaml", &service(None));
    until_mirrored(west, MIRRORED, true).await;
    west.write("namespace.yaml", &namespace_from("south"));
    until_mirrored(west, MIRRORED, false).await;
    west.write("service.yaml", &service(Some("east")));
    until_mirrored(west, MIRRORED, true).await;
    let east = peer(west, "east").await;
    assert_eq!((east.reconnects, east.relists), (0, 0), "{}", east.reason);
    assert_eq!(keys(west, MIRRORED_ADDRESS).await.len(), 1, "addresses are needed whoever is let in");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_changed_while_the_server_was_down_or_its_peer_away_counts_all_the_same() {
    let mut mesh = Mesh::with("west, south", |west| west.write("service.yaml", &service(None))).await;
    until_mirrored(&mesh.west, MIRRORED, true).await;
    let change =
        |text: String| move |manifests: &std::path::Path| std::fs::write(manifests.join("service.yaml"), text).unwrap();
    mesh.west = mesh.west.restart_after(change(service(Some("south")))).await;
    mesh.west.ready().await;
    until_mirrored(&mesh.west, MIRRORED, false).await;
    mesh.west = mesh.west.restart_after(change(service(Some("east,south")))).await;
    mesh.west.ready().await;
    until_mirrored(&mesh.west, MIRRORED, true).await;
    // With nobody there to ask.
    let Mesh { east, west, south } = mesh;
    east.app.stop().await;
    west.write("service.yaml", &service(Some("none")));
    until_mirrored(&west, MIRRORED, false).await;
    assert_eq!(keys(&west, MIRRORED_ADDRESS).await.len(), 1);
    west.app.stop().await;
    south.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_shown_with_the_service_and_what_is_not_understood_takes_nobodys() {
    let mesh = Mesh::with("west, south", |west| west.write("service.yaml", &service(Some("East")))).await;
    let west = &mesh.west;
    until_mirrored(west, MIRRORED_ADDRESS, true).await;
    let row = until("row", || own_row(west)).await;
    assert_eq!(row.import_from, Some(v1::ClusterNames { names: vec![] }));
    assert_eq!(row.export_to, None);
    assert!(row.error.contains("mesh.isthmus.io/import-from: cluster name \"East\" is not valid"), "{}", row.error);
    assert!(row.error.contains("until then no Service of another cluster is taken for it"), "{}", row.error);
    assert_eq!(keys(west, MIRRORED).await, Vec::<String>::new());
    let row = until("row", || own_row(&mesh.east)).await;
    let names = ["south", "west"].map(str::to_owned).to_vec();
    assert_eq!((row.export_to, row.import_from), (Some(v1::ClusterNames { names }), None));
    mesh.stop().await;
}
