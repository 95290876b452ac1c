//! A cluster's own Cilium, which reads from its mesh-apiserver what is mirrored of the others, as from its KVStoreMesh.

use std::collections::BTreeSet;

use certs::PendingLeaf;
use etcd_client::GetOptions;
use mesh_proto::v1;

use super::peer::Peer;
use super::{program, text};
use crate::harness::{GLOBAL, Server, global_service, node, pod, until};

/// A certificate as `meshctl cilium config --for local` gets it.
async fn local_leaf(server: &Server) -> certs::Leaf {
    let pending = PendingLeaf::generate("whoever").unwrap();
    let request = v1::IssueLocalRequest { csr_pem: pending.csr_pem().to_owned() };
    let answer = server.admin().await.issue_local(request).await.unwrap().into_inner();
    let leaf = pending.complete(&answer.certificate_pem).unwrap();
    assert_eq!(leaf.common_name(), format!("local-{}", server.name), "whatever was asked for");
    leaf
}

/// Cilium at `server`, following `cluster`.
async fn cilium(program: &std::path::Path, server: &Server, cluster: &str, dir: &std::path::Path) -> Peer {
    let (cert, key) = (dir.join("local.crt"), dir.join("local.key"));
    local_leaf(server).await.save(&cert, &key).unwrap();
    let flags = [
        format!("-cluster={cluster}"),
        format!("-addresses={}", server.app.etcd),
        format!("-ca={}", server.state("ca.crt").display()),
        format!("-cert={}", cert.display()),
        format!("-key={}", key.display()),
    ];
    Peer::start(program, &flags)
}

/// What the administrator sees below a prefix: keys without it, with their values.
async fn below(server: &Server, prefix: &str) -> BTreeSet<(String, String)> {
    let mut admin = server.etcd(&server.admin_leaf()).await;
    let found = admin.get(prefix, Some(GetOptions::new().with_prefix())).await.unwrap();
    found.kvs().iter().map(|kv| (text(kv.key()), text(kv.value()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clusters_own_cilium_follows_every_peer_by_the_mirror_and_hears_of_its_end_by_the_configuration_first() {
    let Some(program) = program() else { return };
    let grace = vec!["--disconnect-grace=100ms".to_owned()];
    let (east, west) = (Server::start_with("east", 7, grace).await, Server::start("west", 2).await);
    west.write("node.yaml", &node("w1", "192.0.2.1", "10.2.0.0/24"));
    west.write("pods.yaml", &(pod("cart", "10.2.0.2", "w1") + &pod("pay", "10.2.0.3", "w1")));
    west.write("service.yaml", &global_service("10.102.0.1", "10.2.0.2", GLOBAL));
    for server in [&east, &west] {
        server.ready().await;
    }
    east.connect(&west).await.unwrap();
    until("the mirror", || async {
        let peers = east.status().await.peers;
        peers.first().is_some_and(|peer| peer.state == "Live" && peer.resources.iter().all(|r| r.synced)).then_some(())
    })
    .await;

    let dir = tempfile::tempdir().unwrap();
    let mut local = cilium(&program, &east, "west", dir.path()).await;
    local.synced().await;
    let config = local.told.iter().find(|told| told.is("config")).unwrap();
    assert!(config.value.contains(r#""id":2"#) && config.value.contains(r#""cached":true"#), "{}", config.value);
    let got: BTreeSet<_> = local
        .told
        .iter()
        .filter(|told| told.is_event("create", &told.key) && told.key.starts_with("cilium/cache/"))
        .map(|told| (told.key.clone(), told.value.clone()))
        .collect();
    assert_eq!(got, below(&east, "cilium/cache/").await);
    // The same bytes as at their source.
    let values = |facts: &BTreeSet<(String, String)>| facts.iter().map(|(_, v)| v.clone()).collect::<BTreeSet<_>>();
    assert_eq!(values(&got), values(&below(&west, "cilium/state/").await));
    assert!(!local.told.iter().any(|told| told.key.starts_with("cilium/state/")));

    west.write("more.yaml", &pod("late", "10.2.0.9", "w1"));
    local.until("a pod of west", |told| told.is_event("create", "cilium/cache/ip/v1/west/10.2.0.9")).await;

    let from = local.told.len();
    let request = v1::DisconnectPeerRequest { peer_name: "west".into() };
    assert!(east.admin().await.disconnect_peer(request).await.unwrap().into_inner().was_connected);
    local
        .until("the last identity's end", |told| {
            told.is("event") && told.kind == "delete" && told.resource == "identities"
        })
        .await;
    let deletes = local.changes(from).into_iter().filter(|told| told.kind == "delete");
    let order: Vec<&str> = deletes.map(|told| told.resource.as_str()).collect();
    let first =
        |resource: &str| order.iter().position(|r| *r == resource).unwrap_or_else(|| panic!("{resource}: {order:?}"));
    for resource in ["services", "ip", "nodes", "identities"] {
        assert!(first("config") < first(resource), "{order:?}");
    }
    local.end().await;
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clusters_own_cilium_reads_the_mirror_and_nothing_else() {
    let east = Server::start("east", 7).await;
    east.ready().await;
    let mut local = east.etcd(&local_leaf(&east).await).await;
    for (prefix, may) in [
        ("cilium/cache/", true),
        ("cilium/cluster-config/", true),
        ("cilium/synced/", true),
        ("cilium/.heartbeat", true),
        ("cilium/state/", false),
        ("isthmus/", false),
    ] {
        let read = local.get(prefix, Some(GetOptions::new().with_prefix())).await;
        assert_eq!(read.is_ok(), may, "{prefix}");
    }
    assert!(local.put("cilium/cache/x", "1", None).await.is_err());
    // Nobody without the administrator's rights gets such a certificate.
    let pending = PendingLeaf::generate("x").unwrap();
    let request = v1::IssueLocalRequest { csr_pem: pending.csr_pem().to_owned() };
    let channel = east.mesh_channel(Some(local_leaf(&east).await));
    let refused = v1::admin_client::AdminClient::new(channel).issue_local(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let request = v1::IssueLocalRequest { csr_pem: "no request".to_owned() };
    let refused = east.admin().await.issue_local(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    east.app.stop().await;
}
