//! How a Cilium cluster becomes a peer, and what keeps it from becoming one.

use mesh_proto::v1;
use mesh_types::view::{Key, Object};
use tonic::Code;

use super::exporter::ID;
use super::{Cilium, prefix};
use crate::harness::{Replica, Server, node, subscribe, until};
use crate::rotation;

pub(super) async fn east() -> Server {
    let east = Server::start("east", 7).await;
    east.write("node.yaml", &node("e1", "192.0.7.1", "10.7.0.0/24"));
    east.ready().await;
    east
}

pub(super) async fn state(server: &Server) -> Option<v1::PeerStatus> {
    server.status().await.peers.into_iter().next()
}

pub(super) async fn live(server: &Server) {
    until("a live peer", || async { state(server).await.filter(|peer| peer.state == "Live") }).await;
}

/// What an agent of `server` holds.
pub(super) async fn follow(
    server: &Server,
    enough: impl Fn(&Replica) -> bool,
) -> (Replica, tonic::Streaming<v1::SubscribeResponse>) {
    let mut agent = server.agent(server.enroll("e1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    replica.follow(&mut stream, enough).await;
    (replica, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cilium_cluster_is_consumed_under_both_common_names_without_any_change_on_its_side() {
    let cilium = Cilium::start().await;
    cilium.export(ID).await;
    let revision = cilium.admin.kv_client().get("cilium/.heartbeat", None).await.unwrap().header().unwrap().revision();
    for name in ["remote", "remote-east"] {
        let east = east().await;
        let answer = east.admin().await.connect_cilium(cilium.request(name)).await.unwrap().into_inner();
        assert_eq!((answer.peer_name.as_str(), answer.peer_id, answer.already_connected), ("c", 3, false), "{name}");
        live(&east).await;
        let (replica, stream) = follow(&east, |r| r.backends() == ["10.3.0.10", "10.3.0.11"]).await;
        let node = replica.objects.values().find_map(|o| if let Object::Node(n) = o { Some(n) } else { None });
        let node = node.filter(|n| n.cluster.as_str() == "c").expect("its node");
        assert_eq!(node.tunnel_endpoint(), Some("192.0.3.1".parse().unwrap()));
        assert_eq!((node.vxlan_port, node.wireguard_port), (8472, 51_871), "Cilium's ports, as it says no other");
        assert_eq!(node.wireguard_key, Some([0xab; 32]));
        let pods = replica.objects.values().filter_map(|o| if let Object::Ip(ip) = o { Some(ip) } else { None });
        assert_eq!(pods.filter(|ip| ip.identity.0 == (3 << 16) + 1 && ip.cluster.as_str() == "c").count(), 2);

        let again = east.admin().await.connect_cilium(cilium.request(name)).await.unwrap().into_inner();
        assert!(again.already_connected, "repeating it changes nothing");
        let peer = state(&east).await.unwrap();
        assert!(peer.is_cilium && peer.shares_ca_with.is_empty());
        assert!(peer.resources.iter().all(|r| r.synced && r.rejected == 0), "{:?}", peer.resources);
        assert_eq!((peer.reconnects, peer.relists), (0, 0));
        drop(stream);
        east.app.stop().await;
    }
    let after = cilium.admin.kv_client().get("cilium/.heartbeat", None).await.unwrap().header().unwrap().revision();
    assert_eq!(after, revision, "nothing was written to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_cilium_cluster_is_said_before_anything_is_stored() {
    let cilium = Cilium::start().await;
    let east = east().await;
    let good = || cilium.request("remote");
    let mut admin = east.admin().await;
    let text = |name: &str| cilium.file(name).display().to_string();

    let mut table: Vec<(&str, v1::ConnectCiliumRequest, Code, &str)> = vec![
        ("no config yet", good(), Code::FailedPrecondition, "has no cluster-config of it"),
        (
            "own name",
            v1::ConnectCiliumRequest { name: "east".into(), ..good() },
            Code::FailedPrecondition,
            "join itself",
        ),
        ("own id", v1::ConnectCiliumRequest { id: 7, ..good() }, Code::FailedPrecondition, "both have cluster id 7"),
        ("id of none", v1::ConnectCiliumRequest { id: 0, ..good() }, Code::InvalidArgument, "cluster id"),
        (
            "prefixes of east",
            v1::ConnectCiliumRequest { pod_prefixes: vec![prefix("10.7.0.0/20")], ..good() },
            Code::FailedPrecondition,
            "overlaps",
        ),
        (
            "no pod prefix",
            v1::ConnectCiliumRequest { pod_prefixes: Vec::new(), ..good() },
            Code::FailedPrecondition,
            "declares no pod prefix",
        ),
        (
            "511 clusters",
            v1::ConnectCiliumRequest { max_connected_clusters: 511, ..good() },
            Code::FailedPrecondition,
            "at most 255 clusters",
        ),
        (
            "no endpoint",
            v1::ConnectCiliumRequest { endpoints: Vec::new(), ..good() },
            Code::InvalidArgument,
            "no endpoint of c is given",
        ),
        (
            "relative path",
            v1::ConnectCiliumRequest { key_file: "c.key".into(), ..good() },
            Code::InvalidArgument,
            "key-file \"c.key\" is not an absolute path",
        ),
        (
            "no such file",
            v1::ConnectCiliumRequest { cert_file: text("none.crt"), ..good() },
            Code::FailedPrecondition,
            "none.crt: No such file",
        ),
        (
            "another's key",
            v1::ConnectCiliumRequest { key_file: text("s.key"), ..good() },
            Code::FailedPrecondition,
            "does not belong to its key",
        ),
        (
            "the key for the CA",
            v1::ConnectCiliumRequest { trusted_ca_file: text("s.key"), ..good() },
            Code::FailedPrecondition,
            "holds a private key",
        ),
        (
            "the CA of east",
            v1::ConnectCiliumRequest { trusted_ca_file: east.state("ca.crt").display().to_string(), ..good() },
            Code::FailedPrecondition,
            "have a CA in common",
        ),
        ("a name without meaning", cilium.request("nobody"), Code::FailedPrecondition, "is named \"nobody\""),
    ];
    let mut elsewhere = good();
    elsewhere.endpoints[0].address = "127.0.0.1:1".to_owned();
    table.push(("nobody there", elsewhere, Code::Unavailable, "Connection refused"));
    let mut other_name = good();
    other_name.endpoints[0].server_name = "c.example".to_owned();
    table.push(("another server's name", other_name, Code::Unavailable, "certificate not valid for name"));
    for (what, request, code, says) in table {
        let refused = admin.connect_cilium(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
        assert!(refused.message().contains(says), "{what}: {}", refused.message());
        assert!(!refused.message().contains("PRIVATE"), "{what}");
    }

    cilium.config(9, "").await;
    let refused = admin.connect_cilium(good()).await.unwrap_err();
    assert!(refused.message().contains("may not say 9"), "{}", refused.message());
    // Its administrator took the role away.
    cilium.config(3, "").await;
    cilium.admin.auth_client().user_revoke_role("remote", "remote").await.unwrap();
    let refused = admin.connect_cilium(good()).await.unwrap_err();
    assert!(refused.message().contains("permission denied"), "{}", refused.message());
    assert!(state(&east).await.is_none(), "nothing was stored");
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_cilium_cluster_leaves_nothing_behind() {
    let cilium = Cilium::start().await;
    cilium.export(ID).await;
    let east = east().await;
    east.admin().await.connect_cilium(cilium.request("remote")).await.unwrap();
    let (mut replica, mut stream) = follow(&east, |r| r.backends().len() == 2).await;
    let request = v1::DisconnectPeerRequest { peer_name: "c".into() };
    assert!(east.admin().await.disconnect_peer(request).await.unwrap().into_inner().was_connected);
    let of_c = |key: &Key| match key {
        Key::Cluster(cluster)
        | Key::Node { cluster, .. }
        | Key::Ip { cluster, .. }
        | Key::Service { cluster, .. }
        | Key::Backend { cluster, .. } => cluster.as_str() == "c",
        Key::Identity(number) => number.0 >> 16 == 3,
    };
    replica.follow(&mut stream, |r| !r.objects.keys().any(of_c)).await;
    drop(stream);
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_the_own_ca_waits_until_a_cilium_clusters_people_say_that_it_was_given_the_new_one() {
    let cilium = Cilium::start().await;
    cilium.export(ID).await;
    let east = Server::start("east", 7).await;
    east.ready().await;
    let mut admin = east.admin().await;
    admin.connect_cilium(cilium.request("remote")).await.unwrap();
    live(&east).await;
    let begun = rotation::begin(&east).await;
    until("the Cilium cluster alone is awaited", || async {
        let awaited = rotation::rotation(&east).await.awaited;
        matches!(&awaited[..], [one] if one.party == "peer c" && one.what.contains("`knows-cas` in its file"))
            .then_some(())
    })
    .await;
    let bad = v1::ConnectCiliumRequest { knows_cas: vec!["ab:cd".into()], ..cilium.request("remote") };
    let refused = admin.connect_cilium(bad).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("\"ab:cd\" is no hash"), "{refused}");

    let knows = |cas: &[&String]| v1::ConnectCiliumRequest {
        knows_cas: cas.iter().map(|&hash| hash.clone()).collect(),
        ..cilium.request("remote")
    };
    admin.connect_cilium(knows(&[&begun.old_ca, &begun.new_ca])).await.unwrap();
    rotation::until_stage(&east, "retire").await;
    until("it still trusts the old one", || async {
        let awaited = rotation::rotation(&east).await.awaited;
        awaited.iter().any(|one| one.party == "peer c" && one.what.contains("still trusts the old CA")).then_some(())
    })
    .await;
    admin.connect_cilium(knows(&[&begun.new_ca])).await.unwrap();
    rotation::until_stage(&east, "done").await;
    live(&east).await;
    assert_eq!(state(&east).await.unwrap().relists, 0);
    east.app.stop().await;
}
