//! The objects of the MCS API at a real API server, by an account with the documented rights and no others. The other cluster
//! is a folder of manifests that exports as Cilium does: a ServiceExport, and a global Service of the derived name.

use serde_json::{Value, json};

use super::apiserver::{ACCOUNT, Apiserver, Kube};
use super::objects::{SERVICES, SLICES};
use super::{ONE_AT_A_TIME, flags, shop, source};
use crate::harness::{Server, metric, node, until};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const EXPORTS: &str = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports";
const IMPORTS: &str = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceimports";
/// Of `shop/cart`, in every cluster.
const DERIVED: &str = "derived-bsqa4s8pq5";
const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";

/// Resources of the API with a status, whose fields no schema holds.
async fn install(apiserver: &Apiserver) {
    for (kind, plural) in [("ServiceExport", "serviceexports"), ("ServiceImport", "serviceimports")] {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let names =
            json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")});
        let version = json!({"name": "v1beta1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}});
        let spec =
            json!({"group": "multicluster.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [version]});
        let crd = json!({"metadata": {"name": format!("{plural}.multicluster.x-k8s.io")}, "spec": spec});
        apiserver.api.create(CRDS, &crd).await;
    }
    let text = include_str!("../../../../docs/kubernetes/mcs-rbac.yaml");
    let role: Value = serde_saphyr::from_str(text).expect("YAML");
    apiserver.api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    let binding = json!({
        "metadata": {"name": "isthmus-mcs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "isthmus-mcs"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ACCOUNT}],
    });
    apiserver.api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
}

async fn find(apiserver: &Apiserver, path: &str) -> Option<Value> {
    let (code, text) = apiserver.api.try_get(path).await.unwrap();
    (code == 200).then(|| serde_json::from_str(&text).unwrap())
}

/// An object, once it is as it should be.
async fn until_is(apiserver: &Apiserver, path: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    until(&format!("{path}: {what}"), || async { find(apiserver, path).await.filter(|object| is_it(object)) }).await
}

async fn until_gone(apiserver: &Apiserver, path: &str) {
    until(&format!("{path} gone"), || async { find(apiserver, path).await.is_none().then_some(()) }).await;
}

/// First address of each slice of the import, by source cluster.
async fn backends(apiserver: &Apiserver) -> Vec<(String, String)> {
    let list = find(apiserver, SLICES).await.unwrap();
    let label = |slice: &Value, label: &str| slice["metadata"]["labels"][label].as_str().unwrap_or_default().to_owned();
    let of_import =
        list["items"].as_array().unwrap().iter().filter(|s| label(s, "kubernetes.io/service-name") == DERIVED);
    let mut all: Vec<(String, String)> = of_import
        .map(|slice| (label(slice, SOURCE_CLUSTER), slice["endpoints"][0]["addresses"][0].as_str().unwrap().to_owned()))
        .collect();
    all.sort();
    all
}

async fn until_backends(apiserver: &Apiserver, want: &[(&str, &str)]) {
    let want: Vec<(String, String)> = want.iter().map(|(c, a)| ((*c).to_owned(), (*a).to_owned())).collect();
    until(&format!("{want:?}"), || async { (backends(apiserver).await == want).then_some(()) }).await;
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

fn is_conflict(reason: &str) -> impl Fn(&Value) -> bool {
    move |export| condition(export, "Conflict")["status"] == "True" && condition(export, "Conflict")["reason"] == reason
}

/// What the cluster without an API server says, of an export of that time.
fn west(created: &str) -> String {
    node("w1", "192.0.2.1", "10.2.0.0/24")
        + &format!(
            "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
             metadata: {{name: cart, namespace: shop, creationTimestamp: \"{created}\"}}\n---\n\
             kind: Service\nmetadata: {{name: cart, namespace: shop}}\n\
             spec: {{clusterIP: 10.102.0.7, ports: [{{name: grpc, port: 7070}}, {{name: web, port: 80}}]}}\n---\n\
             kind: Service\nmetadata: {{name: {DERIVED}, namespace: shop, annotations: {{mesh.isthmus.io/global: \"true\"}}}}\n\
             spec: {{clusterIP: 10.102.0.8, ports: [{{name: grpc, port: 7070}}, {{name: web, port: 80}}]}}\n---\n\
             kind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: west-x, namespace: shop, labels: {{kubernetes.io/service-name: {DERIVED}}}}}\n\
             endpoints: [{{addresses: [10.2.0.5], hostname: cart-0, nodeName: w1}}]\n\
             ports: [{{name: grpc, port: 8080, protocol: TCP}}, {{name: web, port: 8081, protocol: TCP}}]\n---\n"
        )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_become_imports_that_follow_them_and_go_with_the_last_of_them() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    shop(&apiserver).await;
    install(&apiserver).await;
    let flags = [flags(&kube, &apiserver), vec!["--mcs-api".to_owned()]].concat();
    let east = Server::start_with("east", 1, flags).await;
    east.ready().await;

    let export = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"name": "cart"},
        "spec": {"exportedLabels": {"tier": "back"}, "exportedAnnotations": {"team": "a"}},
    });
    apiserver.api.create_when_possible(EXPORTS, &export).await;
    let (export, import) = (format!("{EXPORTS}/cart"), format!("{IMPORTS}/cart"));
    let (derived, service) = (format!("{SERVICES}/{DERIVED}"), format!("{SERVICES}/cart"));
    let made = until_is(&apiserver, &import, "ready", |import| condition(import, "Ready")["status"] == "True").await;
    let carrying = find(&apiserver, &derived).await.expect("the derived Service");
    assert_eq!(made["spec"]["type"], "ClusterSetIP");
    assert_eq!(made["spec"]["ips"], json!([carrying["spec"]["clusterIP"]]));
    assert_eq!(
        (&made["metadata"]["labels"]["tier"], &made["metadata"]["annotations"]["team"]),
        (&json!("back"), &json!("a"))
    );
    assert_eq!(made["status"]["clusters"], json!([{"cluster": "east"}]));
    assert_eq!(carrying["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    until_backends(&apiserver, &[("east", "10.1.0.2")]).await;
    let said = until_is(&apiserver, &export, "exported", |export| condition(export, "Ready")["status"] == "True").await;
    assert_eq!(
        (&condition(&said, "Valid")["reason"], &condition(&said, "Conflict")["reason"]),
        (&json!("Valid"), &json!("NoConflicts"))
    );

    // Another cluster exports the Service as well, earlier: it is right, and what it has is reached here.
    let other = Server::start("west", 2).await;
    other.write("west.yaml", &west("2026-03-04T05:06:07Z"));
    other.ready().await;
    east.connect(&other).await.unwrap();
    until_is(&apiserver, &export, "a conflict", is_conflict("PortConflict,AnnotationsConflict,LabelsConflict")).await;
    until_backends(&apiserver, &[("east", "10.1.0.2"), ("west", "10.2.0.5")]).await;
    let both = until_is(&apiserver, &import, "two ports", |import| {
        import["spec"]["ports"].as_array().is_some_and(|p| p.len() == 2)
    })
    .await;
    assert_eq!(both["spec"]["ips"], made["spec"]["ips"], "the address stays");
    assert!(both["metadata"]["labels"].get("tier").is_none(), "the oldest has no labels: {}", both["metadata"]);
    let slices = find(&apiserver, SLICES).await.unwrap();
    let of_west =
        slices["items"].as_array().unwrap().iter().find(|s| s["metadata"]["labels"][SOURCE_CLUSTER] == "west").unwrap();
    assert_eq!(
        (&of_west["endpoints"][0]["hostname"], &of_west["endpoints"][0]["nodeName"]),
        (&json!("cart-0"), &Value::Null)
    );

    // The other cluster's backends are not this one's to tell.
    let mut etcd = east.etcd(&east.admin_leaf()).await;
    let told = etcd.get(format!("cilium/state/services/v1/east/shop/{DERIVED}"), None).await.unwrap();
    let told: Value = serde_json::from_slice(told.kvs()[0].value()).unwrap();
    assert_eq!(told["backends"].as_object().unwrap().keys().collect::<Vec<_>>(), ["10.1.0.2"]);

    // What somebody else takes or changes is put right.
    let name = of_west["metadata"]["name"].as_str().unwrap();
    apiserver.api.delete(&format!("{SLICES}/{name}")).await;
    until_backends(&apiserver, &[("east", "10.1.0.2")]).await;
    until_backends(&apiserver, &[("east", "10.1.0.2"), ("west", "10.2.0.5")]).await;

    // A new term finds everything as it is.
    let east = east.restart().await;
    east.ready().await;
    until("a new term's look", || async { (metric(&east, "isthmus_mcs_imports").await == "1").then_some(()) }).await;
    until_backends(&apiserver, &[("east", "10.1.0.2"), ("west", "10.2.0.5")]).await;
    assert_eq!(metric(&east, "isthmus_mcs_writes_total").await, "0");
    assert_eq!(metric(&east, "isthmus_mcs_failures_total").await, "0");

    // Without a Service the own export says so, and the other's goes on; with it being the younger one.
    apiserver.api.delete(&service).await;
    until_is(&apiserver, &export, "no Service", |export| condition(export, "Valid")["reason"] == "NoService").await;
    until_backends(&apiserver, &[("west", "10.2.0.5")]).await;
    apiserver.api.delete(&export).await;
    until_is(&apiserver, &import, "one cluster", |i| i["status"]["clusters"] == json!([{"cluster": "west"}])).await;
    std::fs::remove_file(other.manifests().join("west.yaml")).unwrap();
    until_gone(&apiserver, &import).await;
    until_gone(&apiserver, &derived).await;
    until_backends(&apiserver, &[]).await;
    east.app.stop().await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_others_are_left_alone_and_missing_rights_are_named() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    shop(&apiserver).await;
    install(&apiserver).await;
    let by_hand = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport", "metadata": {"name": "cart"},
        "spec": {"type": "Headless", "ports": []},
    });
    apiserver.api.create_when_possible(IMPORTS, &by_hand).await;
    let flags = [flags(&kube, &apiserver), vec!["--mcs-api".to_owned()]].concat();
    let east = Server::start_with("east", 1, flags).await;
    east.ready().await;
    let export =
        json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"name": "cart"}});
    apiserver.api.create(EXPORTS, &export).await;
    let said = async |words: &'static str| {
        until(words, || async {
            let errors = source(&east).await.errors;
            errors
                .into_iter()
                .find(|e| e.object == "ServiceImport shop/cart" && e.error.contains(words))
                .map(|e| e.error)
        })
        .await
    };
    said("was not made by this server").await;
    let import = format!("{IMPORTS}/cart");
    let found = find(&apiserver, &import).await.unwrap();
    assert_eq!((&found["spec"]["type"], found.get("status")), (&json!("Headless"), None));
    until_is(&apiserver, &format!("{EXPORTS}/cart"), "its conditions all the same", |export| {
        condition(export, "Valid")["status"] == "True"
    })
    .await;

    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/isthmus-mcs";
    let whole = find(&apiserver, role).await.unwrap();
    let mut cut = whole["rules"].clone();
    cut[2]["verbs"] = json!([]);
    let rules: Vec<Value> = cut.as_array().unwrap().iter().filter(|rule| rule["verbs"] != json!([])).cloned().collect();
    apiserver.api.patch(role, &json!({ "rules": rules })).await;
    apiserver.api.delete(&import).await;
    let error = said("may not apply").await;
    assert!(
        error.contains(&format!("Service shop/{DERIVED}")) && error.contains("docs/kubernetes/mcs-rbac.yaml"),
        "{error}"
    );
    apiserver.api.patch(role, &json!({ "rules": whole["rules"] })).await;
    until_is(&apiserver, &import, "ready", |import| condition(import, "Ready")["status"] == "True").await;
    until("no error", || async { source(&east).await.errors.is_empty().then_some(()) }).await;
    east.app.stop().await;
}
