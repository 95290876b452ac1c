//! A resource that is not always there.

use serde_json::json;

use super::apiserver::{Apiserver, Kube};
use super::objects::service;
use super::{ONE_AT_A_TIME, exported, flags, shop, source, until_exported};
use crate::harness::{Server, until};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "serviceexports.multicluster.x-k8s.io";
const EXPORTED: &str = "cilium/state/serviceexports/v1/east/shop/cart";

/// As clusters have it that installed the MCS API early: in its first version only.
async fn install(apiserver: &Apiserver) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let names = json!({"plural": "serviceexports", "singular": "serviceexport", "kind": "ServiceExport", "listKind": "ServiceExportList"});
    let versions = json!([{"name": "v1alpha1", "served": true, "storage": true, "schema": schema}]);
    let spec = json!({"group": "multicluster.x-k8s.io", "scope": "Namespaced", "names": names, "versions": versions});
    apiserver.api.create(CRDS, &json!({"metadata": {"name": NAME}, "spec": spec})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_is_found_when_its_crd_is_installed_one_malformed_object_is_left_out_and_all_go_with_it() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    shop(&apiserver).await;
    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    server.ready().await;
    assert_eq!(source(&server).await.trouble, "", "that it is absent is no fault");
    assert!(!exported(&server).await.contains_key(EXPORTED));

    install(&apiserver).await;
    let collection = "/apis/multicluster.x-k8s.io/v1alpha1/namespaces/shop/serviceexports";
    let export = |name: &str| json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport", "metadata": {"name": name}});
    apiserver.api.create_when_possible(collection, &export("cart")).await;
    until_exported(&server, EXPORTED, true).await;

    // Of built-in kinds the API server lets nothing through that is malformed; of a CRD's, what its schema does not forbid.
    service(&apiserver, "pay", "10.101.0.9", &json!({"mesh.isthmus.io/global": "true"})).await;
    let mut odd = export("pay");
    odd["spec"] = json!({"exportedLabels": "none"});
    apiserver.api.create(collection, &odd).await;
    let error =
        until("the malformed object's name", || async { source(&server).await.errors.into_iter().next() }).await;
    assert_eq!(error.object, "ServiceExport shop/pay");
    assert!(error.error.starts_with("invalid type: string \"none\", expected a map"), "{error:?}");
    let of_pay = EXPORTED.replace("cart", "pay");
    let keys = exported(&server).await;
    assert!(keys.contains_key(EXPORTED) && !keys.contains_key(&of_pay), "left out alone");
    apiserver.api.patch(&format!("{collection}/pay"), &json!({"spec": {"exportedLabels": {"a": "b"}}})).await;
    until_exported(&server, &of_pay, true).await;
    assert!(source(&server).await.errors.is_empty());

    apiserver.api.delete(&format!("{CRDS}/{NAME}")).await;
    until_exported(&server, EXPORTED, false).await;
    until_exported(&server, &of_pay, false).await;
    assert_eq!(source(&server).await.trouble, "");
    server.app.stop().await;
}
