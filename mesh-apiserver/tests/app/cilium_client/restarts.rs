//! A restart of the server, as a connected Cilium sees it.

use super::relay::Relay;
use super::{Name, West, program};
use crate::harness::{GLOBAL, Server, global_service, node, pod};

const ADDRESS: &str = "cilium/state/ip/v1/default/10.7.0.2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_exporter_takes_nothing_back_and_writes_nothing_again() {
    let Some(program) = program() else { return };
    let east = Server::start("east", 7).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    let pods = (2..52).map(|i| pod(&format!("p{i}"), &format!("10.7.0.{i}"), "n1"));
    east.write("pods.yaml", &pods.collect::<String>());
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    east.ready().await;
    let west = West::joined(&east, program).await;
    let relay = Relay::to(east.app.etcd).await;
    let mut cilium = west.cilium(&east, &[relay.address], Name::RemoteWest, &[]);
    cilium.synced().await;

    let from = cilium.told.len();
    let mut east = east;
    for restart in 0..2 {
        east = east.restart().await;
        relay.lead_to(east.app.etcd);
        east.ready().await;
        let ip = format!("10.7.0.{}", 100 + restart);
        east.write(&format!("new{restart}.yaml"), &pod(&format!("new{restart}"), &ip, "n1"));
        cilium.until_each("next event", &["identities", "ip"], |step| step.is("event")).await;
    }
    let cilium = cilium.end().await;
    let changes = cilium.changes(from);
    assert!(changes.iter().all(|told| told.kind == "create" && !told.listed), "{changes:#?}");
    assert_eq!(changes.len(), 4, "two numbers and two addresses: {changes:#?}");
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    assert!(cilium.count("dialed") >= 3, "each restart did break the connection");
    east.app.stop().await;
    west.server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lost_its_store_is_another_one_to_a_client_and_is_listed_anew() {
    let Some(program) = program() else { return };
    let ca = tempfile::tempdir().unwrap();
    let same_ca = vec![format!("--ca-dir={}", ca.path().display())];
    let east = Server::start_with("east", 7, same_ca.clone()).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    east.write("pod.yaml", &pod("cart", "10.7.0.2", "n1"));
    east.ready().await;
    let west = West::joined(&east, program).await;
    let relay = Relay::to(east.app.etcd).await;
    let mut cilium = west.cilium(&east, &[relay.address], Name::RemoteWest, &[]);
    cilium.synced().await;
    let from = cilium.told.len();
    relay.cut();

    let lost = east;
    lost.app.stop().await;
    let east = Server::start_with("east", 7, same_ca).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    east.ready().await;
    east.connect(&west.server).await.expect("it has the same CA");
    relay.lead_to(east.app.etcd);
    let reason = cilium.until("new connection", |step| step.is("reconnect")).await.reason;
    assert!(reason.starts_with("the cluster id was "), "{reason}");
    cilium.synced().await;
    let cilium = cilium.end().await;
    let deleted: Vec<_> = cilium.changes(from).into_iter().filter(|told| told.kind == "delete").collect();
    assert!(deleted.iter().any(|told| told.key == ADDRESS && told.listed), "{deleted:#?}");
    assert!(deleted.iter().all(|told| ["identities", "ip"].contains(&told.resource.as_str())), "{deleted:#?}");
    assert_eq!(cilium.count("reconnect"), 1);
    east.app.stop().await;
    west.server.app.stop().await;
}
