//! The whole server with a real etcd of three members in the place of its own store, over mutual TLS.

use std::path::Path;
use std::time::Duration;

use certs::root_ca::ServerNames;
use certs::{RootCa, Validity};
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity, TlsOptions};
use etcd_peer::{Cluster, ClusterTls, EtcdPeer, Options};
use mesh_types::ClusterName;

use crate::harness::{GLOBAL, PATIENCE, Server, global_service, node, pod, until};

/// Writes a CA, a server's and a client's certificate.
fn issue(dir: &Path) {
    let ca = RootCa::generate(&ClusterName::new("etcd").unwrap()).unwrap();
    std::fs::write(dir.join("ca.crt"), ca.certificate_pem()).unwrap();
    let day = Validity::lasting(Duration::from_hours(24));
    ca.issue_server(&ServerNames::default(), day).unwrap().save(&dir.join("s.crt"), &dir.join("s.key")).unwrap();
    ca.issue_admin(day).unwrap().save(&dir.join("c.crt"), &dir.join("c.key")).unwrap();
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
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path());
    let file = |name: &str| dir.path().join(name);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
    let tls = ClusterTls { ca: file("ca.crt"), certificate: file("s.crt"), key: file("s.key") };
    let flags = vec!["--max-txn-ops=1024".to_owned()];
    let options = Options { members: 3, flags, tls: Some(tls) };
    let etcd = Cluster::start(&EtcdPeer::obtain(workspace).unwrap(), &options).unwrap();
    let mut direct = direct(&etcd, dir.path()).await;

    let server = Server::start_with(
        "east",
        7,
        vec![
            format!("--store=external={}", etcd.endpoints().join(",")),
            format!("--store-ca={}", file("ca.crt").display()),
            format!("--store-cert={}", file("c.crt").display()),
            format!("--store-key={}", file("c.key").display()),
        ],
    )
    .await;
    server.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    server.write("pod.yaml", &pod("cart", "10.7.0.2", "n1"));
    server.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    server.ready().await;
    assert!(!server.dir.path().join("state/store").exists(), "nothing of its own");

    // What the server exports is in etcd, and what peers and etcdctl see of it is etcd's.
    let mut own = server.etcd(&server.admin_leaf()).await;
    let prefix = || Some(GetOptions::new().with_prefix());
    let exported = own.get("cilium/state/", prefix()).await.unwrap();
    assert_eq!(exported.kvs().len(), 4);
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
