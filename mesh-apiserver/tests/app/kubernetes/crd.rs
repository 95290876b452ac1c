//! A resource that is not always there.

use serde_json::json;

use super::apiserver::{Apiserver, Kube};
use super::{ONE_AT_A_TIME, exported, flags, shop, source, until_exported};
use crate::harness::Server;

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
async fn a_resource_is_found_when_its_crd_is_installed_and_its_objects_go_with_it() {
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
    let export =
        json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport", "metadata": {"name": "cart"}});
    apiserver.api.create_when_possible(collection, &export).await;
    until_exported(&server, EXPORTED, true).await;

    apiserver.api.delete(&format!("{CRDS}/{NAME}")).await;
    until_exported(&server, EXPORTED, false).await;
    assert_eq!(source(&server).await.trouble, "");
    server.app.stop().await;
}
