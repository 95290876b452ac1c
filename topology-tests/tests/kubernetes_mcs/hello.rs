//! The Service that the cases are about, as the suite has it: `hello` with a port of TCP and one of UDP and an affinity.

use serde_json::{Value, json};
use topology_tests::kubernetes::workload::Workload;

pub(crate) const NAME: &str = "hello";
/// Of both protocols, and what its pods listen on.
pub(crate) const PORT: u16 = 42;

/// A Service with what a case changes of it.
pub(crate) fn service(changes: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": NAME, "labels": { "of": "the-service" }, "annotations": { "of": "the-service" } },
        "spec": {
            "selector": { "app": NAME },
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [port("tcp", "TCP", PORT), port("udp", "UDP", PORT)],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
        },
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

/// A port of a Service whose pods listen on theirs, whatever its number.
pub(crate) fn port(name: &str, protocol: &str, number: u16) -> Value {
    json!({ "name": name, "protocol": protocol, "port": number, "targetPort": PORT })
}

pub(crate) fn headless() -> Value {
    // A port of what has no address is that of the pods.
    json!({ "clusterIP": "None" })
}

/// Its pods: a Deployment, or a StatefulSet, whose pods have names. In the namespace of the case.
pub(crate) fn workload(kind: &str, cluster: &str, replicas: u32) -> Value {
    let ports = format!("{PORT}/TCP,{PORT}/UDP");
    let mut workload = Workload { kind, name: NAME, cluster, ports: &ports, replicas }.object();
    workload["metadata"] = json!({ "name": NAME });
    workload
}

/// The pod that asks, in the default namespace of each cluster. Its own server is of no use to anybody.
pub(crate) fn asking(cluster: &str) -> Value {
    let mut pod = workload("Deployment", cluster, 1)["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"] = json!({ "name": "request", "labels": { "app": "request" } });
    pod
}
