//! Two clusters, joined through the admin API as meshctl does.

use std::time::{Duration, Instant};

use mesh_proto::v1;
use tonic::Code;

use crate::harness::{GLOBAL, Replica, Server, global_service, node, pod, subscribe, tampered, until};

async fn joined() -> (Server, Server) {
    let (east, west) = (Server::start("east", 1).await, Server::start("west", 2).await);
    east.write("node.yaml", &node("e1", "192.0.1.1", "10.1.0.0/24"));
    west.write("node.yaml", &node("w1", "192.0.2.1", "10.2.0.0/24"));
    west.write("pod.yaml", &pod("cart", "10.2.0.2", "w1"));
    west.write("service.yaml", &global_service("10.102.0.1", "10.2.0.2", GLOBAL));
    east.ready().await;
    west.ready().await;
    let answer = east.connect(&west).await.unwrap();
    assert_eq!((answer.peer_name.as_str(), answer.peer_id, answer.already_connected), ("west", 2, false));
    (east, west)
}

async fn state(server: &Server) -> Option<String> {
    server.status().await.peers.first().map(|p| p.state.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_one_cluster_reaches_the_agents_of_the_other() {
    let (east, west) = joined().await;
    let mut agent = east.agent(east.enroll("e1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    replica.follow(&mut stream, |r| r.backends() == ["10.2.0.2"]).await;
    for server in [&east, &west] {
        until("a live peer", || async { (state(server).await.as_deref() == Some("Live")).then_some(()) }).await;
    }
    let again = east.connect(&west).await.unwrap();
    assert!(again.already_connected, "repeating a join changes nothing");

    let mut delays = Vec::new();
    for i in 3..23 {
        let backend = format!("10.2.0.{i}");
        let started = Instant::now();
        west.write("service.yaml", &global_service("10.102.0.1", &backend, GLOBAL));
        replica.follow(&mut stream, |r| r.backends() == [backend.clone()]).await;
        delays.push(started.elapsed());
    }
    delays.sort_unstable();
    println!("file in west to agent of east: p50 {:?}, max {:?}", delays[delays.len() / 2], delays[delays.len() - 1]);

    let services = east.admin().await.list_services(v1::ListRequest::default()).await.unwrap().into_inner().services;
    assert_eq!(services.len(), 1);
    assert_eq!((services[0].service.as_ref().unwrap().cluster.as_str(), &services[0].selected[..]), ("west", &[0][..]));

    let request = v1::DisconnectPeerRequest { peer_name: "west".into() };
    assert!(east.admin().await.disconnect_peer(request.clone()).await.unwrap().into_inner().was_connected);
    replica.follow(&mut stream, |r| r.backends().is_empty() && r.objects.len() == 2).await;
    assert!(!east.admin().await.disconnect_peer(request).await.unwrap().into_inner().was_connected);
    drop(stream);
    east.app.stop().await;
    west.app.stop().await;
}

/// What `one` finds of `other`: severity, check, text.
async fn preflight(one: &Server, other: v1::ClusterDeclaration) -> Vec<(i32, String, String)> {
    let request = v1::PreflightRequest { other: Some(other) };
    let findings = one.admin().await.preflight(request).await.unwrap().into_inner().findings;
    findings.into_iter().map(|finding| (finding.severity, finding.check, finding.text)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflight_finds_what_joining_would_and_what_it_would_not() {
    let (fail, warn) = (i32::from(v1::Severity::Fail), i32::from(v1::Severity::Warn));
    let (east, west, other) =
        (Server::start("east", 1).await, Server::start("west", 2).await, Server::start("north", 3).await);
    let said = async |server: &Server| {
        server.admin().await.get_declaration(v1::GetDeclarationRequest {}).await.unwrap().into_inner()
    };
    let declared = said(&west).await;
    let complaints = |findings: Vec<(i32, String, String)>| -> Vec<(i32, String, String)> {
        findings.into_iter().filter(|(severity, ..)| *severity != 0).collect()
    };
    let fine = preflight(&east, declared.clone()).await;
    assert_eq!(fine.iter().filter(|(_, check, _)| check == "reach").count(), 2, "{fine:?}");
    let only_agents = complaints(fine);
    assert!(
        matches!(&only_agents[..], [(severity, check, _)] if *severity == warn && check == "agents"),
        "{only_agents:?}"
    );

    // Who answers at the address is another cluster; and then nobody.
    let elsewhere = v1::ClusterDeclaration { mesh_endpoints: said(&other).await.mesh_endpoints, ..declared.clone() };
    let found = complaints(preflight(&east, elsewhere).await);
    assert!(
        found.iter().any(|(_, _, text)| text.contains("but another server than the expected one answers")),
        "{found:?}"
    );
    let clash = v1::ClusterDeclaration { id: 1, ..declared.clone() };
    let found = complaints(preflight(&east, clash).await);
    assert!(found.iter().any(|(severity, check, _)| *severity == fail && check == "id"), "{found:?}");
    west.app.stop().await;
    let found = complaints(preflight(&east, declared).await);
    let unreached: Vec<_> = found.iter().filter(|(_, check, _)| check == "reach").collect();
    assert_eq!(unreached.len(), 2, "{found:?}");
    assert!(
        unreached.iter().all(|(severity, _, text)| *severity == fail && text.contains("does not take connections"))
    );
    assert!(east.status().await.peers.is_empty(), "nothing is changed");
    east.app.stop().await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_of_no_use_and_a_revoked_peers_streams_are_cut() {
    let (east, west) = joined().await;
    let token = east.join_token(&west).await.unwrap();
    let mut admin = east.admin().await;
    let tokens = admin.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    let [row] = &tokens[..] else { panic!("{tokens:?}") };
    assert_eq!((row.kind.as_str(), row.bearer.as_str(), row.redeemed_by.as_str()), ("join", "cluster west (id 2)", ""));
    for was_revoked in [false, true] {
        let request = v1::RevokeTokenRequest { id: row.id.clone() };
        assert_eq!(admin.revoke_token(request).await.unwrap().into_inner().was_revoked, was_revoked);
    }
    let request = v1::ConnectPeerRequest { token };
    let refused = west.admin().await.connect_peer(request).await.unwrap_err();
    assert!(refused.message().contains("was revoked"), "{refused}");
    let unknown = admin.revoke_token(v1::RevokeTokenRequest { id: "none".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");

    // West reads east's store over an open stream until east trusts it no more.
    let west_at = |state: &'static str| {
        let west = &west;
        async move { west.status().await.peers.first().is_some_and(|peer| peer.state == state).then_some(()) }
    };
    until("west to be live", || west_at("Live")).await;
    let before = Instant::now();
    let request = v1::DisconnectPeerRequest { peer_name: "west".into() };
    assert!(admin.disconnect_peer(request).await.unwrap().into_inner().was_connected);
    let cut = until("west's stream to end", || async {
        (west.status().await.peers.first().is_none_or(|peer| peer.state != "Live" || !peer.reason.is_empty()))
            .then_some(())
    });
    tokio::time::timeout(Duration::from_secs(5), cut).await.expect("the promised time");
    println!("west's stream was cut {:?} after its cluster was revoked", before.elapsed());
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_survives_the_restart_of_either_side() {
    let (east, west) = joined().await;
    until("a live peer", || async { (state(&east).await.as_deref() == Some("Live")).then_some(()) }).await;
    let east = east.restart().await;
    east.ready().await;
    until("a live peer", || async { (state(&east).await.as_deref() == Some("Live")).then_some(()) }).await;
    let services = east.status().await.services;
    assert_eq!(services, 1, "the peer's Service was there all the time");
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_and_clusters_that_do_not_fit_are_refused_before_any_change() {
    let (east, west) = (Server::start("east", 1).await, Server::start("west", 2).await);
    east.ready().await;
    west.ready().await;
    let connect = |token: String| async {
        let token = token;
        let error = east.admin().await.connect_peer(v1::ConnectPeerRequest { token }).await.unwrap_err();
        (error.code(), error.message().to_owned())
    };
    let (code, text) = connect("nonsense".into()).await;
    assert_eq!((code, text.contains("this is not an Isthmus token")), (Code::InvalidArgument, true), "{text}");
    let token = west.join_token(&east).await.unwrap();
    let (_, text) = connect(tampered(&token)).await;
    assert!(text.contains("was altered or damaged on the way"), "{text}");

    let same_id = Server::start("north", 1).await;
    let refused = west.join_token(&Server { id: 2, ..same_id }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("west and north both have cluster id 2"), "{}", refused.message());
    let twin = Server::start("west", 3).await;
    let refused = west.join_token(&twin).await.unwrap_err();
    assert!(refused.message().contains("this cluster is named west itself"), "{}", refused.message());

    for server in [&east, &west] {
        assert!(server.status().await.peers.is_empty(), "nothing was changed");
    }
    twin.app.stop().await;
    east.app.stop().await;
    west.app.stop().await;
}
