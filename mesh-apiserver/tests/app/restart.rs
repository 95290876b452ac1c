//! What survives a restart.

use crate::harness::{GLOBAL, Replica, Server, global_service, metric, node, pod, subscribe, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_continues_at_the_same_revision_and_writes_nothing() {
    let server = Server::start("east", 1).await;
    server.write("node.yaml", &node("n1", "192.0.1.1", "10.1.0.0/24"));
    server.write("service.yaml", &global_service("10.101.0.1", "10.1.0.2", GLOBAL));
    server.write("pod.yaml", &pod("cart", "10.1.0.2", "n1"));
    server.ready().await;
    let leaf = server.enroll("n1").await;
    let mut agent = server.agent(leaf.clone());
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    replica.follow(&mut stream, |r| r.revision > 0 && r.objects.len() == 6).await;
    let before = server.status().await;
    drop(stream);

    let server = server.restart().await;
    server.ready().await;
    let after = server.status().await;
    assert_eq!(after.uuid, before.uuid);
    let (before, after) = (before.store.unwrap(), after.store.unwrap());
    assert_eq!(after.cluster_id, before.cluster_id);
    assert!(after.revision >= before.revision, "{} then {}", before.revision, after.revision);
    assert_eq!(metric(&server, "isthmus_export_keys_total").await, "0");

    server.write("pod2.yaml", &pod("pay", "10.1.0.3", "n1"));
    until("the second pod", || async { (server.status().await.endpoints == 2).then_some(()) }).await;
    let mut stream =
        server.agent(leaf).subscribe(subscribe(replica.cluster_id, replica.revision)).await.unwrap().into_inner();
    replica.received = 0;
    replica.follow(&mut stream, |r| r.objects.len() == 8).await;
    assert_eq!((replica.snapshots, replica.received), (1, 2), "resumed over the restart, with what changed since");
    drop(stream);

    std::fs::remove_file(server.manifests().join("pod.yaml")).unwrap();
    let server = server.restart().await;
    server.ready().await;
    let status = server.status().await;
    assert_eq!(status.endpoints, 1, "what went while nobody looked is gone");
    server.app.stop().await;
}
