//! A cluster's DNS: the objects of a CoreDNS that answers for the cluster's names and for no others.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::images::COREDNS;
use crate::topology::ClusterPlan;

pub const NAMESPACE: &str = "kube-system";
pub const WORKLOAD: &str = "deployment/coredns";
const NAME: &str = "coredns";

const COREFILE: &str = "
.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa {
        pods insecure
    }
    cache 5
    reload
}
";

/// Where pods ask.
pub fn address(plan: &ClusterPlan) -> Ipv4Addr {
    super::control_plane::service_ip(plan, 10)
}

/// All objects, as one list.
pub fn objects(plan: &ClusterPlan) -> String {
    let name = |kind: &str, api: &str| json!({ "apiVersion": api, "kind": kind, "metadata": { "name": NAME } });
    let mut all = vec![role(), name("ServiceAccount", "v1"), name("ConfigMap", "v1"), deployment(), service(plan)];
    all[2]["data"] = json!({ "Corefile": COREFILE });
    for object in &mut all[1..] {
        object["metadata"]["namespace"] = NAMESPACE.into();
    }
    all.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "system:coredns" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
        "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }],
    }));
    json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string()
}

fn role() -> Value {
    let watch = ["list", "watch"];
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "system:coredns" },
        "rules": [
            { "apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": watch },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch },
        ],
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": NAME, "labels": { "k8s-app": "kube-dns" } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "k8s-app": "kube-dns" } },
            "template": {
                "metadata": { "labels": { "k8s-app": "kube-dns" } },
                "spec": {
                    "serviceAccountName": NAME,
                    "priorityClassName": "system-cluster-critical",
                    "dnsPolicy": "Default",
                    "containers": [{
                        "name": NAME,
                        "image": COREDNS,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "ports": [
                            { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                            { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                        ],
                        "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 }, "periodSeconds": 1 },
                        "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns", "readOnly": true }],
                    }],
                    "volumes": [{ "name": "config", "configMap": { "name": NAME } }],
                },
            },
        },
    })
}

fn service(plan: &ClusterPlan) -> Value {
    let ports = json!([
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
    ]);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        // The name that CoreDNS's documents and tools look for.
        "metadata": { "name": "kube-dns", "labels": { "k8s-app": "kube-dns" } },
        "spec": { "selector": { "k8s-app": "kube-dns" }, "clusterIP": address(plan), "ports": ports },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn dns_is_the_tenth_address_of_the_services_and_all_but_roles_are_in_its_namespace() {
        let plan = &Topology::plain(1, 1).clusters[0];
        let list: Value = serde_json::from_str(&objects(plan)).unwrap();
        for object in list["items"].as_array().unwrap() {
            let is_clusters = object["kind"].as_str().unwrap().starts_with("ClusterRole");
            assert_eq!(object["metadata"]["namespace"] == NAMESPACE, !is_clusters, "{object}");
        }
        assert_eq!(list["items"][4]["spec"]["clusterIP"], "10.101.0.10");
    }
}
