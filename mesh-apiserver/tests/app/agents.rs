//! Enrolment, registration and the stream.

use std::time::Duration;

use mesh_proto::v1;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_proto::v1::join_client::JoinClient;
use mesh_proto::v1::subscribe_response::Message;
use mesh_types::NodeName;
use mesh_types::view::{Key, Object};
use tonic::Code;

use crate::harness::{GLOBAL, Replica, Server, global_service, node, pod, subscribe, tampered, until};

/// How often a server speaks at least.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

fn registration() -> v1::RegisterRequest {
    v1::RegisterRequest {
        wireguard_key: vec![9; 32].into(),
        wireguard_port: 51881,
        vxlan_port: 8473,
        version: "test".into(),
        kernel: "6.18".into(),
        wireguard_backend: "userspace".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sees_the_whole_view_then_its_changes_and_resumes_by_revision() {
    let server = Server::start("east", 1).await;
    server.write("node.yaml", &node("n1", "192.0.1.1", "10.1.0.0/24"));
    server.write("pod.yaml", &pod("cart", "10.1.0.2", "n1"));
    server.write("service.yaml", &global_service("10.101.0.1", "10.1.0.2", GLOBAL));
    server.ready().await;
    let mut agent = server.agent(server.enroll("n1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = Replica::default();
    // Own cluster, number, node, address, Service, backend.
    replica.follow(&mut stream, |r| r.revision > 0 && r.objects.len() == 6).await;
    assert_eq!(replica.snapshots, 1);

    let answer = agent.register(registration()).await.unwrap().into_inner();
    assert_eq!((answer.cluster.as_str(), answer.cluster_id), ("east", 1));
    let east = mesh_types::ClusterName::new("east").unwrap();
    let key = Key::Node { cluster: east, name: NodeName("n1".into()) };
    let has_key =
        |r: &Replica| matches!(r.objects.get(&key), Some(Object::Node(n)) if n.wireguard_key == Some([9; 32]));
    replica.follow(&mut stream, has_key).await;
    assert_eq!(replica.snapshots, 1, "a change comes as a change");

    agent.report_status(v1::ReportStatusRequest { realized_revision: 7, ..Default::default() }).await.unwrap();
    let status = server.status().await;
    let shown = &status.agents[0];
    assert!(shown.connected && shown.wireguard_backend == "userspace", "{shown:?}");
    assert_eq!(shown.report.as_ref().unwrap().realized_revision, 7);

    drop(stream);
    until("the end of the stream", || async { (!server.status().await.agents[0].connected).then_some(()) }).await;
    server.write("pod2.yaml", &pod("pay", "10.1.0.3", "n1"));
    until("the second pod", || async { (server.status().await.endpoints == 2).then_some(()) }).await;
    let mut stream = agent.subscribe(subscribe(replica.cluster_id, replica.revision)).await.unwrap().into_inner();
    replica.received = 0;
    replica.follow(&mut stream, |r| r.objects.len() == 8).await;
    assert_eq!((replica.snapshots, replica.received), (1, 2), "resumed: one number and one address came");

    let pending = certs::PendingLeaf::generate("n1").unwrap();
    let renewed = agent.renew(v1::RenewRequest { csr_pem: pending.csr_pem().to_owned() }).await.unwrap().into_inner();
    assert_eq!(pending.complete(&renewed.certificate_pem).unwrap().common_name(), "agent-n1");
    drop(stream);
    server.app.stop().await;
}

/// A joined cluster's heartbeats move the store on for ever, and change nothing that an agent is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_that_it_lives_while_the_store_moves_on_under_a_view_that_does_not() {
    let server = Server::start("east", 1).await;
    server.write("node.yaml", &node("n1", "192.0.1.1", "10.1.0.0/24"));
    server.ready().await;
    let mut agent = server.agent(server.enroll("n1").await);
    let mut stream = agent.subscribe(subscribe(0, 0)).await.unwrap().into_inner();
    let mut etcd = server.etcd(&server.admin_leaf()).await;
    let mut tick = tokio::time::interval(KEEP_ALIVE / 10);
    let writing = async {
        loop {
            tick.tick().await;
            etcd.put("cilium/read/by-nobody", "", None).await.unwrap();
        }
    };
    let listening = async {
        let is_sign = |message: &v1::SubscribeResponse| matches!(message.message, Some(Message::KeepAlive(_)));
        while !is_sign(&stream.message().await.unwrap().unwrap()) {}
    };
    tokio::select! {
        () = writing => {}
        heard = tokio::time::timeout(2 * KEEP_ALIVE, listening) => heard.expect("a sign of life"),
    }
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_only_join_and_enroll_are_served() {
    let server = Server::start("east", 1).await;
    let mut nobody = AgentClient::new(server.mesh_channel(None));
    let refused = nobody.subscribe(subscribe(0, 0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("agent-<node>"), "{}", refused.message());
    assert_eq!(nobody.register(registration()).await.unwrap_err().code(), Code::Unauthenticated);

    let mut admin = v1::admin_client::AdminClient::new(server.mesh_channel(None));
    let refused = admin.get_status(v1::GetStatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut agent_as_admin = v1::admin_client::AdminClient::new(server.mesh_channel(Some(server.enroll("n1").await)));
    let refused = agent_as_admin.get_status(v1::GetStatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\"agent-n1\""), "{}", refused.message());
    let mut admin = v1::admin_client::AdminClient::new(server.mesh_channel(Some(server.admin_leaf())));
    assert_eq!(admin.get_version(v1::GetVersionRequest {}).await.unwrap().into_inner().cluster, "east");
    assert_eq!(
        server.agent(server.admin_leaf()).register(registration()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_token_is_good_for_one_key_of_its_node() {
    let server = Server::start("east", 1).await;
    let request = v1::CreateNodeTokenRequest { node: "n1".into(), ttl_seconds: 60 };
    let token = server.admin().await.create_node_token(request).await.unwrap().into_inner().token;
    let mut join = JoinClient::new(server.mesh_channel(None));
    let pending = certs::PendingLeaf::generate("n1").unwrap();
    let enroll = |token: &str, node: &str, csr: &str| v1::EnrollRequest {
        token: token.to_owned(),
        node: node.to_owned(),
        csr_pem: csr.to_owned(),
        ..v1::EnrollRequest::default()
    };
    let other_node = join.enroll(enroll(&token, "n2", pending.csr_pem())).await.unwrap_err();
    assert!(other_node.message().contains("is for node n1, not for node n2"), "{}", other_node.message());
    let altered = join.enroll(enroll(&tampered(&token), "n1", pending.csr_pem())).await.unwrap_err();
    assert!(altered.message().contains("was altered or damaged"), "{}", altered.message());
    let no_csr = join.enroll(enroll(&token, "n1", "no request")).await.unwrap_err();
    assert_eq!(no_csr.code(), Code::InvalidArgument);
    join.enroll(enroll(&token, "n1", pending.csr_pem())).await.unwrap();
    join.enroll(enroll(&token, "n1", pending.csr_pem())).await.expect("the same key again: an answer was lost");
    let thief = certs::PendingLeaf::generate("n1").unwrap();
    let used = join.enroll(enroll(&token, "n1", thief.csr_pem())).await.unwrap_err();
    assert_eq!(used.code(), Code::PermissionDenied);
    assert!(used.message().contains("was used already"), "{}", used.message());
    server.app.stop().await;
}
