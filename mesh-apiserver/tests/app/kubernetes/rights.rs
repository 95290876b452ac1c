//! What the API server does not let it read.

use serde_json::json;

use super::apiserver::Kube;
use super::objects::node;
use super::{ONE_AT_A_TIME, exported, flags, ip, shop, source, until_exported};
use crate::harness::{Server, until};

const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/isthmus-source";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_named_and_nothing_is_exported_or_withdrawn_for_it() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    shop(&apiserver).await;
    let (code, text) = apiserver.api.try_get(ROLE).await.unwrap();
    assert_eq!(code, 200, "{text}");
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut cut = whole["rules"].clone();
    cut[1]["verbs"] = json!(["watch"]);
    apiserver.api.patch(ROLE, &json!({ "rules": cut })).await;

    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    let named = "may not list endpointslices.discovery.k8s.io: ";
    let remedy = "Bind the ClusterRole of docs/kubernetes/source-rbac.yaml to that account";
    let trouble = until("the missing right", || async {
        let trouble = source(&server).await.trouble;
        trouble.contains(named).then_some(trouble)
    })
    .await;
    assert!(trouble.contains("User \"isthmus\" cannot list resource \"endpointslices\""), "{trouble}");
    assert!(trouble.contains(remedy) && !trouble.contains("pods"), "{trouble}");
    assert!(!server.app.readiness.is_ready(), "what is not known to be complete is not exported");
    assert_eq!(exported(&server).await.len(), 0);

    apiserver.api.patch(ROLE, &json!({ "rules": whole["rules"] })).await;
    server.ready().await;
    until("an end of the trouble", || async { source(&server).await.trouble.is_empty().then_some(()) }).await;
    let before = exported(&server).await;
    assert!(before.contains_key(&ip("10.1.0.2")));

    // And the other way round: rights that are taken away withdraw nothing.
    apiserver.api.patch(ROLE, &json!({ "rules": [] })).await;
    let server = server.restart().await;
    server.ready().await;
    let trouble = until("all missing rights", || async {
        let trouble = source(&server).await.trouble;
        (trouble.matches("may not list ").count() == 6).then_some(trouble)
    })
    .await;
    assert!(trouble.contains("may not list namespaces: ") && trouble.contains("may not list nodes: "), "{trouble}");
    assert_eq!(exported(&server).await, before);
    apiserver.api.patch(ROLE, &json!({ "rules": whole["rules"] })).await;
    node(&apiserver, "n2", "192.0.1.2", Some("10.1.1.0/24")).await;
    until_exported(&server, "cilium/state/nodes/v1/east/n2", true).await;
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_not_accepted_are_named_and_new_ones_are_taken_without_a_restart() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    shop(&apiserver).await;
    let flags = flags(&kube, &apiserver);
    let path = kube.kubeconfig(apiserver.port);
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("of-the-mesh", "of-nobody")).unwrap();
    let server = Server::start_with("east", 1, flags).await;
    let trouble = until("the credentials' trouble", || async {
        let trouble = source(&server).await.trouble;
        (!trouble.is_empty()).then_some(trouble)
    })
    .await;
    let told = format!("https://127.0.0.1:{} does not accept the credentials (Unauthorized)", apiserver.port);
    assert!(trouble.contains(&told) && !trouble.contains("of-nobody"), "{trouble}");
    std::fs::write(&path, good).unwrap();
    server.ready().await;
    until_exported(&server, &ip("10.1.0.2"), true).await;
    server.app.stop().await;
}
