//! Agents that show tokens which the API server made: whose they are decides, whatever the agent says.

use certs::PendingLeaf;
use mesh_proto::v1;
use mesh_proto::v1::join_client::JoinClient;
use tonic::{Code, Status};

use super::accounts::{account, agent_pod, expired, may, system, token, trust_flags};
use super::apiserver::Kube;
use super::objects::grant;
use super::{ONE_AT_A_TIME, flags};
use crate::harness::{Server, subscribe, until};

async fn enroll(server: &Server, token: &str, node: &str) -> Result<certs::Leaf, Status> {
    let pending = PendingLeaf::generate(node).expect("a key");
    let request = v1::EnrollRequest {
        service_account_token: token.to_owned(),
        node: node.to_owned(),
        csr_pem: pending.csr_pem().to_owned(),
        ..v1::EnrollRequest::default()
    };
    let answer = JoinClient::new(server.mesh_channel(None)).enroll(request).await?.into_inner();
    assert_eq!(answer.trust_bundle_pem, server.bundle().pem());
    Ok(pending.complete(&answer.certificate_pem).expect("the certificate is for this key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_that_of_the_node_on_which_kubernetes_runs_its_pod_and_of_no_other() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut apiserver = kube.start().await;
    grant(&apiserver).await;
    system(&apiserver).await;
    for name in ["agent", "other"] {
        account(&apiserver, name).await;
    }
    let uid = agent_pod(&apiserver, "agent-x", "agent", "n1", "192.0.1.1").await;
    let others = agent_pod(&apiserver, "other-x", "other", "n2", "192.0.1.2").await;
    let server = Server::start_with("east", 1, [flags(&kube, &apiserver), trust_flags()].concat()).await;
    server.ready().await;

    let good = token(&apiserver, "agent", Some("isthmus"), Some(("agent-x", &uid))).await;
    let leaf = enroll(&server, &good, "n1").await.expect("the agent of n1");
    assert_eq!(leaf.common_name(), "agent-n1");
    server.agent(leaf).subscribe(subscribe(0, 0)).await.expect("it is let in");
    // A pod that lost its state folder.
    enroll(&server, &good, "n1").await.expect("the agent of n1 again");

    let of_the_api = token(&apiserver, "agent", None, Some(("agent-x", &uid))).await;
    let of_others = token(&apiserver, "other", Some("isthmus"), Some(("other-x", &others))).await;
    let of_no_pod = token(&apiserver, "agent", Some("isthmus"), None).await;
    let old = expired(&kube, &good);
    let altered = format!("{}x", &good[..good.len() - 3]);
    let account_text = "enrol as \"system:serviceaccount:isthmus-system:agent\"";
    for (what, shown, node, code, part) in [
        ("another node", &good, "n2", Code::PermissionDenied, "runs on node \"n1\", and not on \"n2\""),
        ("another audience", &of_the_api, "n1", Code::Unauthenticated, "invalid for the target audiences"),
        ("another account", &of_others, "n2", Code::PermissionDenied, account_text),
        ("no pod", &of_no_pod, "n1", Code::PermissionDenied, "is not bound to a pod"),
        ("an old one", &old, "n1", Code::Unauthenticated, "token has expired"),
        ("an altered one", &altered, "n1", Code::Unauthenticated, "project one of audience \"isthmus\""),
        ("none at all", &"x".repeat(20_000), "n1", Code::Unauthenticated, "longer than a token can be"),
    ] {
        let refused = enroll(&server, shown, node).await.expect_err(what);
        assert_eq!(refused.code(), code, "{what}: {refused:?}");
        assert!(refused.message().contains(part), "{what}: {part}\nis not in\n{}", refused.message());
        assert!(!format!("{refused:?}").contains(shown.as_str()), "{what}: the token is quoted");
    }

    // An agent's token makes nobody an administrator, unless its account is given that right.
    let refused = super::bearer::status(&server, &good).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    may(&apiserver, "agent", "get").await;
    until("the right to look", || async { super::bearer::status(&server, &good).await.ok() }).await;

    apiserver.api.delete("/api/v1/namespaces/isthmus-system/pods/agent-x").await;
    let gone = until("a refusal", || async { enroll(&server, &good, "n1").await.err() }).await;
    assert_eq!(gone.code(), Code::Unauthenticated, "a pod that is gone: {gone:?}");

    apiserver.kill();
    let refused = enroll(&server, &good, "n1").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("gives no answer") && refused.message().contains("cannot be reached"));
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_accounts_says_what_it_would_take() {
    let server = Server::start("east", 1).await;
    let refused = enroll(&server, "of-a-pod", "n1").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("--agent-service-account NAMESPACE/NAME"), "{refused:?}");
    let refused = super::bearer::status(&server, "of-a-user").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("--source kubernetes"), "{refused:?}");
    server.app.stop().await;
}
