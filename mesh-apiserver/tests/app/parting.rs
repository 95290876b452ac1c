//! A cluster is parted: its facts are used no more at once, and are removed when who reads the mirror has had time to let go.

use std::collections::BTreeMap;

use etcd_client::GetOptions;
use mesh_proto::v1;
use mesh_types::view::{Key, Object};

use crate::harness::{GLOBAL, Replica, Server, global_service, node, pod, subscribe, until};
use crate::members::Plan;

const CONFIG: &str = "cilium/cluster-config/west";

async fn west() -> Server {
    let west = Server::start("west", 2).await;
    west.write("node.yaml", &node("w1", "192.0.2.1", "10.2.0.0/24"));
    west.write("pod.yaml", &pod("cart", "10.2.0.2", "w1"));
    west.write("service.yaml", &global_service("10.102.0.1", "10.2.0.2", GLOBAL));
    west.ready().await;
    west
}

async fn live(server: &Server) {
    until("a live peer", || async {
        server.status().await.peers.first().is_some_and(|peer| peer.state == "Live").then_some(())
    })
    .await;
}

async fn part(server: &Server) {
    let request = v1::DisconnectPeerRequest { peer_name: "west".into() };
    assert!(server.admin().await.disconnect_peer(request).await.unwrap().into_inner().was_connected);
}

/// Keys of a part of the store, and when each was written.
async fn written(server: &Server, prefix: &str) -> BTreeMap<String, i64> {
    let mut admin = server.etcd(&server.admin_leaf()).await;
    let found = admin.get(prefix, Some(GetOptions::new().with_prefix())).await.unwrap();
    found.kvs().iter().map(|kv| (kv.key_str().unwrap().to_owned(), kv.mod_revision())).collect()
}

async fn until_unconfigured(server: &Server) {
    until("the configuration's end", || async { written(server, CONFIG).await.is_empty().then_some(()) }).await;
}

async fn until_nothing_left(server: &Server) {
    until("the end of all facts", || async {
        let mut left = written(server, "cilium/cache/").await;
        left.extend(written(server, "cilium/synced/west/").await);
        left.extend(written(server, "isthmus/v1/mirror/").await);
        left.is_empty().then_some(())
    })
    .await;
}

fn is_of_west(object: &Object) -> bool {
    match object.key() {
        Key::Identity(number) => number.0 >> 16 == 2,
        Key::Cluster(cluster)
        | Key::Node { cluster, .. }
        | Key::Ip { cluster, .. }
        | Key::Service { cluster, .. }
        | Key::Backend { cluster, .. } => cluster.as_str() == "west",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_let_go_of_a_parted_cluster_at_once_and_have_all_of_it_again_when_it_is_joined_within_the_grace() {
    let (east, west) = (Server::start("east", 1).await, west().await);
    east.ready().await;
    east.connect(&west).await.unwrap();
    live(&east).await;
    let mut agent = east.agent(east.enroll("e1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    let of_west = |r: &Replica| r.objects.values().filter(|object| is_of_west(object)).count();
    replica.follow(&mut stream, |r| of_west(r) == 6).await;
    let before = written(&east, "cilium/cache/").await;
    assert_eq!(before.len(), 5, "{before:?}");

    part(&east).await;
    replica.follow(&mut stream, |r| of_west(r) == 0).await;
    until_unconfigured(&east).await;
    assert_eq!(written(&east, "cilium/cache/").await, before, "for who reads the mirror they are still there");
    assert_eq!(written(&east, "cilium/synced/west/").await.len(), 6);
    assert!(
        east.admin().await.list_services(v1::ListRequest::default()).await.unwrap().into_inner().services.is_empty()
    );

    east.connect(&west).await.unwrap();
    replica.follow(&mut stream, |r| of_west(r) == 6).await;
    live(&east).await;
    assert_eq!(written(&east, "cilium/cache/").await, before, "0 keys rewritten");
    assert_eq!(written(&east, CONFIG).await.len(), 1);
    drop(stream);

    // A server that ends in the pause, whatever its successor's is: what was begun is finished.
    part(&east).await;
    until_unconfigured(&east).await;
    let Server { name, id, dir, app, .. } = east;
    app.stop().await;
    let east = Server::start_at(name, id, dir, vec!["--disconnect-grace=1ms".to_owned()]).await;
    until_nothing_left(&east).await;
    east.connect(&west).await.unwrap();
    live(&east).await;
    part(&east).await;
    until_nothing_left(&east).await;
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_goes_on_with_the_grace_of_the_one_that_is_lost() {
    let plan = Plan::new(3);
    let mut replicas = Vec::from(plan.start_three().await);
    for replica in &replicas {
        replica.ready().await;
    }
    let west = west().await;
    replicas[0].connect(&west).await.unwrap();
    live(&replicas[0]).await;
    part(&replicas[1]).await;
    until_unconfigured(&replicas[2]).await;
    let mark = written(&replicas[2], "isthmus/v1/mirror/west").await;
    assert_eq!(mark.len(), 1, "the record of what is left");
    let leader =
        until("a leader", || async { Some(crate::members::members(&replicas[0]).await.leader).filter(|id| *id != 0) })
            .await;
    let place = replicas.iter().position(|server| server.more_flags.contains(&format!("--replica-id={leader}")));
    let lost = replicas.remove(place.expect("one of them leads"));
    let Server { name, id, dir, app, mut more_flags } = lost;
    app.stop().await;
    until("another controller", || async { replicas[0].status().await.source.is_some().then_some(()) }).await;
    assert_eq!(written(&replicas[1], "isthmus/v1/mirror/west").await, mark, "it does not begin again");
    assert_eq!(written(&replicas[1], "cilium/cache/").await.len(), 5);
    replicas[1].connect(&west).await.unwrap();
    live(&replicas[0]).await;
    assert_eq!(written(&replicas[1], "cilium/cache/").await.len(), 5);
    more_flags.push("--disconnect-grace=1ms".to_owned());
    let back = Server::start_at(name, id, dir, more_flags).await;
    back.ready().await;
    for server in replicas.into_iter().chain([back, west]) {
        server.app.stop().await;
    }
}
