//! Memberships as objects of a real API server, beside those that meshctl begins.

use mesh_apiserver::kubernetes::crd::definitions;
use mesh_proto::v1;
use serde_json::{Value, json};
use tonic::Code;

use super::accounts::{SYSTEM, bind, system, trust_flags};
use super::apiserver::{Apiserver, Kube};
use super::objects::grant;
use super::{ONE_AT_A_TIME, flags};
use crate::harness::{Server, node, until};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const PEERINGS: &str = "/apis/mesh.isthmus.io/v1alpha1/clusterpeerings";
const CONFIGS: &str = "/apis/mesh.isthmus.io/v1alpha1/meshconfigs";
const WEST: &str = "/apis/mesh.isthmus.io/v1alpha1/clusterpeerings/west";
/// Unknown fields are refused, as kubectl has it.
const STRICT: &str = "?fieldValidation=Strict";

fn peering(name: &str, spec: &Value) -> Value {
    let metadata = json!({ "name": name });
    json!({ "apiVersion": "mesh.isthmus.io/v1alpha1", "kind": "ClusterPeering", "metadata": metadata, "spec": spec })
}

fn config(name: &str, spec: &Value) -> Value {
    let metadata = json!({ "name": name });
    json!({ "apiVersion": "mesh.isthmus.io/v1alpha1", "kind": "MeshConfig", "metadata": metadata, "spec": spec })
}

fn by_token() -> Value {
    json!({ "token": { "secretRef": { "name": "west-token", "key": "token" } } })
}

async fn install(server: &Apiserver) {
    for (name, definition) in definitions() {
        server.api.create(CRDS, &definition).await;
        let listed = format!("/apis/mesh.isthmus.io/v1alpha1/{name}");
        until("a kind that can be listed", || async {
            matches!(server.api.try_get(&listed).await, Ok((200, _))).then_some(())
        })
        .await;
    }
}

async fn get(server: &Apiserver, path: &str) -> Option<Value> {
    let (code, text) = server.api.try_get(path).await.expect("an answer");
    (code == 200).then(|| serde_json::from_str(&text).expect("JSON"))
}

fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Waits for a condition of the peering with west, and gives its message.
async fn until_west(server: &Apiserver, kind: &str, status: &str, reason: &str) -> String {
    let wanted = format!("{kind} {status} {reason}");
    until(&wanted, || async {
        let object = get(server, WEST).await?;
        let (found, because, message) = condition(&object, kind);
        (found == status && because == reason).then_some(message)
    })
    .await
}

async fn until_gone(server: &Apiserver) {
    until("an end of the object", || async { get(server, WEST).await.is_none().then_some(()) }).await;
}

async fn peers(server: &Server) -> Vec<String> {
    server.status().await.peers.into_iter().map(|peer| peer.name).collect()
}

async fn disconnect(server: &Server) -> Result<bool, tonic::Status> {
    let request = v1::DisconnectPeerRequest { peer_name: "west".to_owned() };
    Ok(server.admin().await.disconnect_peer(request).await?.into_inner().was_connected)
}

/// East reads its objects of the API server, west reads manifests.
async fn both(kube: &Kube, apiserver: &Apiserver) -> (Server, Server) {
    grant(apiserver).await;
    system(apiserver).await;
    bind(apiserver, include_str!("../../../../docs/kubernetes/objects-rbac.yaml"), "isthmus-objects").await;
    let objects = vec![format!("--objects-namespace={SYSTEM}")];
    let east = Server::start_with("east", 1, [flags(kube, apiserver), trust_flags(), objects].concat()).await;
    let west = Server::start("west", 2).await;
    west.write("node.yaml", &node("w1", "192.0.2.1", "10.2.0.0/24"));
    east.ready().await;
    west.ready().await;
    (east, west)
}

async fn secret(server: &Apiserver, name: &str, key: &str, value: &str) {
    let object = json!({ "metadata": { "name": name }, "stringData": { key: value } });
    server.api.create(&format!("/api/v1/namespaces/{SYSTEM}/secrets"), &object).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_joins_by_its_token_names_what_is_wrong_until_then_and_parts_when_it_is_deleted() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    let (east, west) = both(&kube, &apiserver).await;
    install(&apiserver).await;

    apiserver.api.create(&format!("{PEERINGS}{STRICT}"), &peering("west", &by_token())).await;
    let message = until_west(&apiserver, "Accepted", "False", "SecretMissing").await;
    assert!(
        message.contains("kubectl create secret generic west-token -n isthmus-system --from-file=token="),
        "{message}"
    );
    secret(&apiserver, "west-token", "other", "x").await;
    let message = until_west(&apiserver, "Accepted", "False", "SecretKeyMissing").await;
    assert!(message.contains("it holds other"), "{message}");
    let path = format!("/api/v1/namespaces/{SYSTEM}/secrets/west-token");
    apiserver.api.patch(&path, &json!({ "stringData": { "token": "of-no-cluster" } })).await;
    let message = until_west(&apiserver, "Accepted", "False", "TokenUnusable").await;
    assert!(message.contains("meshctl token create") && !message.contains("of-no-cluster"), "{message}");

    let token = west.join_token(&east).await.unwrap();
    apiserver.api.patch(&path, &json!({ "stringData": { "token": token } })).await;
    until_west(&apiserver, "Joined", "True", "Joined").await;
    until_west(&apiserver, "Ready", "True", "Live").await;
    let object = get(&apiserver, WEST).await.unwrap();
    assert_eq!((object["status"]["id"].as_u64(), object["status"]["state"].as_str()), (Some(2), Some("Live")));
    assert_eq!(condition(&object, "Accepted").0, "True");
    assert_eq!(peers(&east).await, ["west"]);
    let events = get(&apiserver, "/apis/events.k8s.io/v1/namespaces/default/events").await.unwrap();
    let of_west = |event: &&Value| event["regarding"]["name"] == "west";
    let reasons: Vec<_> = events["items"].as_array().unwrap().iter().filter(of_west).map(|e| &e["reason"]).collect();
    for reason in ["SecretMissing", "SecretKeyMissing", "TokenUnusable", "Joined"] {
        assert!(reasons.iter().any(|found| *found == reason), "{reason} in {reasons:?}");
    }
    for text in [object.to_string(), events.to_string()] {
        assert!(!text.contains(&token) && !text.contains(&token[20..]), "the token is shown");
    }

    let refused = disconnect(&east).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("kubectl delete clusterpeering west"), "{}", refused.message());
    // A restart finds everything as it is, with the token gone.
    apiserver.api.delete(&path).await;
    let east = east.restart().await;
    east.ready().await;
    until_west(&apiserver, "Ready", "True", "Live").await;

    apiserver.api.delete(WEST).await;
    until_gone(&apiserver).await;
    assert_eq!(peers(&east).await, Vec::<String>::new());
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_meshctl_joined_is_left_alone_until_an_object_takes_it_over() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    install(&apiserver).await;
    let (east, west) = both(&kube, &apiserver).await;

    east.connect(&west).await.unwrap();
    until("a session", || async { (peers(&east).await == ["west"]).then_some(()) }).await;
    assert_eq!(get(&apiserver, PEERINGS).await.unwrap()["items"], json!([]), "no object is made for it");
    assert!(disconnect(&east).await.unwrap());

    // Without a token: it waits, and takes over what meshctl begins.
    apiserver.api.create(PEERINGS, &peering("west", &json!({}))).await;
    let message = until_west(&apiserver, "Joined", "False", "WaitingForPeer").await;
    assert!(message.contains("meshctl token create --peer west"), "{message}");
    east.connect(&west).await.unwrap();
    until_west(&apiserver, "Ready", "True", "Live").await;
    assert_eq!(disconnect(&east).await.unwrap_err().code(), Code::FailedPrecondition);

    // Taken away by force, it leaves the membership to meshctl.
    apiserver.api.patch(WEST, &json!({ "metadata": { "finalizers": null } })).await;
    apiserver.api.delete(WEST).await;
    until("a membership of nobody's", || async { disconnect(&east).await.ok() }).await;

    // A token of another cluster than the object is named after joins nobody.
    let north = Server::start("north", 3).await;
    north.write("node.yaml", &node("n1", "192.0.3.1", "10.3.0.0/24"));
    north.ready().await;
    secret(&apiserver, "west-token", "token", &north.join_token(&east).await.unwrap()).await;
    apiserver.api.create(PEERINGS, &peering("west", &by_token())).await;
    let message = until_west(&apiserver, "Accepted", "False", "TokenOfAnother").await;
    assert!(message.contains("the token is of cluster north"), "{message}");
    assert_eq!(peers(&east).await, Vec::<String>::new());
    for server in [east, west, north] {
        server.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_that_both_sides_declare_join_without_a_token() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    install(&apiserver).await;
    let (east, west) = both(&kube, &apiserver).await;
    let trust = json!({ "secretRef": { "name": "west-ca", "key": "ca.crt" } });
    let mut declared = json!({
        "id": 2, "endpoints": [west.app.etcd.to_string()], "podCIDRs": ["10.2.0.0/16"], "nodeCIDRs": ["192.0.2.0/24"],
        "serviceCIDRs": ["10.102.0.0/16"], "trustBundle": trust,
    });
    secret(&apiserver, "west-ca", "ca.crt", &west.bundle().pem()).await;
    apiserver.api.create(PEERINGS, &peering("west", &json!({ "declared": declared }))).await;
    until_west(&apiserver, "Joined", "True", "Joined").await;
    // West knows nothing of east yet, and lets nobody in.
    until_west(&apiserver, "Ready", "False", "Connecting").await;
    west.connect(&east).await.unwrap();
    until_west(&apiserver, "Ready", "True", "Live").await;

    // What is newly declared counts; another cluster's CA does not.
    declared["serviceCIDRs"] = json!(["10.102.0.0/17"]);
    apiserver.api.patch(WEST, &json!({ "spec": { "declared": declared } })).await;
    until_west(&apiserver, "Ready", "True", "Live").await;
    let stranger = certs::RootCa::generate(&mesh_types::ClusterName::new("west").unwrap()).unwrap();
    let path = format!("/api/v1/namespaces/{SYSTEM}/secrets/west-ca");
    apiserver.api.patch(&path, &json!({ "stringData": { "ca.crt": stranger.certificate_pem() } })).await;
    declared["serviceCIDRs"] = json!(["10.102.0.0/18"]);
    apiserver.api.patch(WEST, &json!({ "spec": { "declared": declared } })).await;
    let message = until_west(&apiserver, "Accepted", "False", "Conflict").await;
    assert!(message.contains("two clusters are named west"), "{message}");
    until_west(&apiserver, "Joined", "True", "Joined").await;
    apiserver.api.delete(WEST).await;
    until_gone(&apiserver).await;
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_refuses_what_can_never_be_and_says_what_to_do() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    install(&apiserver).await;
    let trust = json!({ "secretRef": { "name": "ca", "key": "ca.crt" } });
    let declared = |field: &str, value: Value| {
        let mut declared = json!({
            "id": 2, "endpoints": ["192.0.2.1:2379"], "podCIDRs": ["10.2.0.0/16"], "nodeCIDRs": ["192.0.2.0/24"],
            "trustBundle": trust,
        });
        declared[field] = value;
        json!({ "declared": declared })
    };
    let mut both = by_token();
    both["declared"] = declared("id", json!(2))["declared"].clone();
    for (object, part) in [
        (peering("west", &both), "give token or declared, and not both"),
        (peering("west.io", &by_token()), "metadata.name is the other cluster's name"),
        (
            peering("west", &json!({ "datapath": "native" })),
            "Unsupported value: \"native\": supported values: \"vxlan\"",
        ),
        (peering("west", &json!({ "encryption": "ipsec" })), "supported values: \"wireguard\", \"none\""),
        (peering("west", &json!({ "export": {} })), "unknown field \"spec.export\""),
        (peering("west", &declared("id", json!(512))), "spec.declared.id"),
        (peering("west", &declared("endpoints", json!(["192.0.2.1"]))), "spec.declared.endpoints[0]"),
        (peering("west", &declared("podCIDRs", json!(["10.2.0.1/16"]))), "podCIDRs: IPv4 prefixes without host bits"),
        (peering("west", &declared("nodeCIDRs", json!(["fd00::/64"]))), "nodeCIDRs: IPv4 prefixes without host bits"),
        (config("mine", &json!({})), "there is one MeshConfig, and its name is default"),
        (
            config("default", &json!({ "staleAfter": "2m", "withdrawAfter": "90s" })),
            "withdrawAfter is shorter than staleAfter",
        ),
        (config("default", &json!({ "staleAfter": "soon" })), "spec.staleAfter"),
    ] {
        let collection = if object["kind"] == "MeshConfig" { CONFIGS } else { PEERINGS };
        let (code, text) = apiserver.api.try_create(&format!("{collection}{STRICT}"), &object).await.unwrap();
        let text = text.replace("\\\"", "\"");
        assert!(code >= 400, "{object} was taken");
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_while_the_mesh_runs_and_what_cannot_is_named() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    install(&apiserver).await;
    let (east, west) = both(&kube, &apiserver).await;
    let path = format!("{CONFIGS}/default");
    let until_applied = async |status: &str, reason: &str| {
        until(&format!("Applied {status} {reason}"), || async {
            let object = get(&apiserver, &path).await?;
            let (found, because, message) = condition(&object, "Applied");
            (found == status && because == reason).then_some((object["status"].clone(), message))
        })
        .await
    };
    apiserver.api.create(CONFIGS, &config("default", &json!({ "withdrawAfter": "2m" }))).await;
    let (status, _) = until_applied("True", "Applied").await;
    assert_eq!((status["staleAfter"].as_str(), status["withdrawAfter"].as_str()), (Some("15s"), Some("120s")));
    let spec = json!({ "spec": { "staleAfter": "20s", "encryption": "none", "maxConnectedClusters": 511 } });
    apiserver.api.patch(&path, &spec).await;
    let (status, message) = until_applied("False", "NotAtRunTime").await;
    assert_eq!(status["staleAfter"].as_str(), Some("20s"), "all else counts");
    assert!(message.contains("spec.encryption cannot change while the mesh runs"), "{message}");
    assert!(message.contains("spec.maxConnectedClusters is 255 and cannot change"), "{message}");
    east.app.stop().await;
    west.app.stop().await;
}
