//! A small shop as objects of the API.

use serde_json::{Value, json};

use super::apiserver::{ACCOUNT, Apiserver};

pub(super) const PODS: &str = "/api/v1/namespaces/shop/pods";
pub(super) const SERVICES: &str = "/api/v1/namespaces/shop/services";
pub(super) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// Lets mesh-apiserver's account do what the documented ClusterRole says.
pub(super) async fn grant(server: &Apiserver) {
    let text = include_str!("../../../../docs/kubernetes/source-rbac.yaml");
    let role: Value = serde_saphyr::from_str(text).expect("YAML");
    server.api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    let binding = json!({
        "metadata": {"name": "isthmus-source"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "isthmus-source"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ACCOUNT}],
    });
    server.api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
}

pub(super) async fn namespace(server: &Apiserver, name: &str) {
    server.api.create("/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": {"team": "blue"}}})).await;
}

pub(super) async fn node(server: &Apiserver, name: &str, ip: &str, pod_cidr: Option<&str>) {
    let cidrs: Vec<&str> = pod_cidr.into_iter().collect();
    let object = json!({"metadata": {"name": name}, "spec": {"podCIDR": pod_cidr, "podCIDRs": cidrs}});
    server.api.create("/api/v1/nodes", &object).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
    server.api.patch(&format!("/api/v1/nodes/{name}/status"), &status).await;
}

pub(super) async fn pod(server: &Apiserver, name: &str, node: &str, ip: &str) {
    let container = json!({"name": "main", "image": "none", "ports": [{"name": "grpc", "containerPort": 8080}]});
    let spec = json!({"nodeName": node, "containers": [container]});
    server.api.create(PODS, &json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})).await;
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    server.api.patch(&format!("{PODS}/{name}/status"), &status).await;
}

/// On its node's own network.
pub(super) async fn host_pod(server: &Apiserver, name: &str, node: &str, ip: &str) {
    let spec = json!({"nodeName": node, "hostNetwork": true, "containers": [{"name": "main", "image": "none"}]});
    server.api.create(PODS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": ip}});
    server.api.patch(&format!("{PODS}/{name}/status"), &status).await;
}

/// Service `shop/<name>` with annotations.
pub(super) async fn service(server: &Apiserver, name: &str, ip: &str, annotations: &Value) {
    let spec = json!({"clusterIP": ip, "selector": {"app": name}, "ports": [{"name": "grpc", "port": 7070}]});
    server.api.create(SERVICES, &json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec})).await;
}

/// Its only slice, with endpoints as Kubernetes writes them.
pub(super) async fn slice(server: &Apiserver, service: &str, endpoints: &Value) {
    let object = json!({
        "metadata": {"name": format!("{service}-x"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}],
    });
    server.api.create(SLICES, &object).await;
}
