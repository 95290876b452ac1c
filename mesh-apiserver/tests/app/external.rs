//! The whole server with a real etcd of three members in the place of its own store, over mutual TLS.

use std::path::Path;
use std::time::Duration;

use certs::root_ca::ServerNames;
use certs::{RootCa, Validity};
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity, TlsOptions};
use etcd_peer::{Cluster, ClusterTls, EtcdPeer, Options};
use mesh_types::ClusterName;

use crate::harness::{GLOBAL, PATIENCE, Replica, Server, global_service, node, pod, subscribe, until};

/// Writes a CA, a server's and a client's certificate.
fn issue(dir: &Path) {
    let ca = RootCa::generate(&ClusterName::new("etcd").unwrap()).unwrap();
    std::fs::write(dir.join("ca.crt"), ca.certificate_pem()).unwrap();
    let day = Validity::lasting(Duration::from_hours(24));
    ca.issue_server(&ServerNames::default(), day).unwrap().save(&dir.join("s.crt"), &dir.join("s.key")).unwrap();
    ca.issue_admin(day).unwrap().save(&dir.join("c.crt"), &dir.join("c.key")).unwrap();
}

/// Three members with a CA of their own.
struct Etcd {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        issue(dir.path());
        let file = |name: &str| dir.path().join(name);
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
        let tls = ClusterTls { ca: file("ca.crt"), certificate: file("s.crt"), key: file("s.key") };
        let flags = vec!["--max-txn-ops=1024".to_owned()];
        let options = Options { members: 3, flags, tls: Some(tls) };
        let cluster = Cluster::start(&EtcdPeer::obtain(workspace).unwrap(), &options).unwrap();
        Self { cluster, dir }
    }

    /// What a server is told to keep its state here.
    fn flags(&self) -> Vec<String> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        vec![
            format!("--store=external={}", self.cluster.endpoints().join(",")),
            format!("--store-ca={}", file("ca.crt")),
            format!("--store-cert={}", file("c.crt")),
            format!("--store-key={}", file("c.key")),
        ]
    }
}

async fn direct(cluster: &Cluster, dir: &Path) -> Client {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")))
        .identity(Identity::from_pem(read("c.crt"), read("c.key")));
    Client::connect(cluster.endpoints(), Some(ConnectOptions::new().with_tls(tls))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_its_state_in_an_external_etcd() {
    let etcd = Etcd::start();
    let mut direct = direct(&etcd.cluster, etcd.dir.path()).await;
    let server = Server::start_with("east", 7, etcd.flags()).await;
    server.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    server.write("pod.yaml", &pod("cart", "10.7.0.2", "n1"));
    server.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    server.ready().await;
    assert!(!server.dir.path().join("state/store").exists(), "nothing of its own");

    // What the server exports is in etcd, and what peers and etcdctl see of it is etcd's.
    let mut own = server.etcd(&server.admin_leaf()).await;
    let prefix = || Some(GetOptions::new().with_prefix());
    let exported = own.get("cilium/state/", prefix()).await.unwrap();
    assert_eq!(exported.kvs().len(), 5);
    let stored = direct.get("cilium/state/", prefix()).await.unwrap();
    assert_eq!(exported.0.kvs, stored.0.kvs);
    let number = stored.header().unwrap().cluster_id();
    assert_eq!(exported.header().unwrap().cluster_id(), number, "the number is etcd's own");
    assert_eq!(server.status().await.store.unwrap().cluster_id, number);

    // A change is on its way through etcd's watch.
    let mut events = own.watch("cilium/state/ip/", Some(etcd_client::WatchOptions::new().with_prefix())).await.unwrap();
    server.write("pod2.yaml", &pod("pay", "10.7.0.3", "n1"));
    loop {
        let event = tokio::time::timeout(PATIENCE, events.message()).await.expect("in time").unwrap().unwrap();
        if event.events().iter().any(|e| e.kv().unwrap().key_str().unwrap().ends_with("/10.7.0.3")) {
            break;
        }
    }
    until("the second pod", || async { (server.status().await.endpoints == 2).then_some(()) }).await;
    drop(events);

    // A restart finds all of it and writes nothing of it again.
    let before = own.get("cilium/state/", prefix()).await.unwrap();
    let server = server.restart().await;
    server.ready().await;
    let after = server.etcd(&server.admin_leaf()).await.get("cilium/state/", prefix()).await.unwrap();
    assert_eq!(before.0.kvs, after.0.kvs);
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_an_external_etcd_joins_another_and_outlives_the_loss_of_a_member() {
    let mut etcd = Etcd::start();
    let (east, west) = (Server::start_with("east", 1, etcd.flags()).await, Server::start("west", 2).await);
    for (server, name, ip, pods) in
        [(&east, "e1", "192.0.1.1", "10.1.0.0/24"), (&west, "w1", "192.0.2.1", "10.2.0.0/24")]
    {
        server.write("node.yaml", &node(name, ip, pods));
        server.ready().await;
    }
    west.write("service.yaml", &global_service("10.102.0.1", "10.2.0.2", GLOBAL));
    east.connect(&west).await.unwrap();
    let mut agent = east.agent(east.enroll("e1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    replica.follow(&mut stream, |r| r.backends() == ["10.2.0.2"]).await;

    for (member, backend) in [(0, "10.2.0.3"), (1, "10.2.0.4"), (2, "10.2.0.5")] {
        etcd.cluster.kill(member).unwrap();
        west.write("service.yaml", &global_service("10.102.0.1", backend, GLOBAL));
        replica.follow(&mut stream, |r| r.backends() == [backend]).await;
        etcd.cluster.restart(member).unwrap();
    }
    assert_eq!(replica.snapshots, 1, "the agent's stream went on all the time");

    // And the other way: what east exports out of etcd reaches west's agents.
    east.write("service.yaml", &global_service("10.101.0.1", "10.1.0.9", GLOBAL));
    let mut agent = west.agent(west.enroll("w1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    replica.follow(&mut stream, |r| r.backends().iter().any(|backend| backend == "10.1.0.9")).await;
    drop(stream);
    east.app.stop().await;
    west.app.stop().await;
}
