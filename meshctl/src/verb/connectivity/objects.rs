//! The objects of a test in one cluster: a server, clients on nodes, and a Service for each cluster's server.

use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::{SERVICE_TCP_PORT, SERVICE_UDP_PORT, TCP_PORT, UDP_PORT};
use crate::kubernetes::{Cluster, Error};

/// By which what a test made is found again.
pub(super) const COMPONENT: &str = "app.kubernetes.io/component=meshctl-connectivity";
const PROGRAM: &str = "/usr/bin/meshctl";

/// What they are made for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) namespace: String,
    /// Name of this cluster in the mesh, and its number in the test.
    pub(super) cluster: String,
    pub(super) number: usize,
    /// How many clusters there are.
    pub(super) clusters: usize,
    pub(super) image: String,
    /// The server is on the first, clients are on all.
    pub(super) nodes: Vec<String>,
}

fn labels(more: &[(&str, String)]) -> Value {
    let mut labels = json!({
        "app.kubernetes.io/name": "isthmus", "app.kubernetes.io/component": "meshctl-connectivity",
        "app.kubernetes.io/managed-by": "meshctl",
    });
    for (key, value) in more {
        labels[*key] = value.clone().into();
    }
    labels
}

impl Wanted {
    pub(super) fn namespace(&self) -> Value {
        let privileged = ("pod-security.kubernetes.io/enforce", "privileged".to_owned());
        json!({ "metadata": { "name": self.namespace, "labels": labels(&[privileged]) } })
    }

    /// One for each cluster's server, the same in all of them: its backends are that cluster's alone.
    pub(super) fn services(&self) -> Vec<Value> {
        let service = |number: usize| {
            json!({
                "metadata": {
                    "name": service_name(number), "labels": labels(&[]),
                    "annotations": { "mesh.isthmus.io/global": "true" },
                },
                "spec": {
                    "selector": { "mesh.isthmus.io/connectivity-server": number.to_string() },
                    "ports": [
                        { "name": "tcp", "port": SERVICE_TCP_PORT, "targetPort": TCP_PORT },
                        { "name": "udp", "port": SERVICE_UDP_PORT, "targetPort": UDP_PORT, "protocol": "UDP" },
                    ],
                },
            })
        };
        (0..self.clusters).map(service).collect()
    }

    pub(super) fn pods(&self) -> Vec<Value> {
        let mut pods = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if i == 0 {
                pods.push(self.pod("server", node, "mesh.isthmus.io/connectivity-server", false));
            }
            pods.push(self.pod(&format!("client-{i}"), node, "mesh.isthmus.io/connectivity-client", false));
            pods.push(self.pod(&format!("host-{i}"), node, "mesh.isthmus.io/connectivity-client", true));
        }
        pods
    }

    fn pod(&self, name: &str, node: &str, role: &str, is_host: bool) -> Value {
        let is_server = name == "server";
        let command =
            if is_server { vec![PROGRAM, "connectivity", "serve"] } else { vec![PROGRAM, "connectivity", "idle"] };
        let ports = json!([{ "containerPort": TCP_PORT }, { "containerPort": UDP_PORT, "protocol": "UDP" }]);
        json!({
            "metadata": { "name": name, "labels": labels(&[(role, self.number.to_string())]) },
            "spec": {
                "nodeName": node, "hostNetwork": is_host, "automountServiceAccountToken": false,
                "enableServiceLinks": false, "terminationGracePeriodSeconds": 1, "restartPolicy": "Always",
                "containers": [{
                    "name": "meshctl", "image": self.image, "imagePullPolicy": "IfNotPresent", "command": command,
                    "env": [
                        { "name": "MESHCTL_CLUSTER", "value": self.cluster },
                        { "name": "MESHCTL_POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    ],
                    "ports": if is_server { ports } else { json!([]) },
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "readOnlyRootFilesystem": true,
                        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                }],
            },
        })
    }
}

pub(super) fn service_name(number: usize) -> String {
    format!("server-{number}")
}

/// Makes one object.
pub(super) async fn create<K>(cluster: &Cluster, api: &Api<K>, what: &str, object: Value) -> Result<K, Error>
where
    K: serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    let object: K =
        serde_json::from_value(object).map_err(|error| Error::Mesh(format!("{what} cannot be written: {error}")))?;
    cluster.ask("create", what, api.create(&PostParams::default(), &object)).await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Namespace, Pod, Service};

    use super::*;

    #[test]
    fn the_server_is_on_one_node_and_clients_are_on_each() {
        let wanted = Wanted {
            namespace: "n".into(),
            cluster: "a".into(),
            number: 1,
            clusters: 2,
            image: "r/i:1".into(),
            nodes: vec!["a1".into(), "a2".into()],
        };
        let pods: Vec<Pod> = wanted.pods().into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect();
        let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["server", "client-0", "host-0", "client-1", "host-1"]);
        let services: Vec<Service> =
            wanted.services().into_iter().map(|object| serde_json::from_value(object).unwrap()).collect();
        let selector = services[1].spec.as_ref().unwrap().selector.as_ref().unwrap();
        let of_server = pods[0].metadata.labels.as_ref().unwrap();
        assert!(selector.iter().all(|(key, value)| of_server.get(key) == Some(value)), "{selector:?}");
        serde_json::from_value::<Namespace>(wanted.namespace()).unwrap();
    }
}
