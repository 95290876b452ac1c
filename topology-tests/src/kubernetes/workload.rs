//! What the tests run on real clusters: pods of the lab's server under one of Kubernetes' controllers, and Services before
//! them. Gives objects; applies none. A test that needs more changes what it was given.

use serde_json::{Value, json};

use super::images::WORKLOAD;

/// Pods of the lab's server, in the namespace `default` unless the object is changed.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// `Deployment`, `DaemonSet` or `StatefulSet`.
    pub kind: &'a str,
    /// Its name, and the label `app` of its pods.
    pub name: &'a str,
    /// What its pods say that they are in.
    pub cluster: &'a str,
    /// What they listen on, as the server takes it: `8080/TCP,9090/UDP`. Empty: nothing.
    pub ports: &'a str,
    /// Of a DaemonSet it means nothing.
    pub replicas: u32,
}

impl Workload<'_> {
    pub fn object(&self) -> Value {
        let Self { kind, name, cluster, ports, replicas } = *self;
        let labels = json!({ "app": name });
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": { "name": name, "namespace": "default" },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "terminationGracePeriodSeconds": 1, "containers": [container(cluster, ports)] },
                },
            },
        });
        if kind != "DaemonSet" {
            object["spec"]["replicas"] = replicas.into();
        }
        if kind == "StatefulSet" {
            object["spec"]["serviceName"] = name.into();
            object["spec"]["podManagementPolicy"] = "Parallel".into();
        }
        object
    }

    /// One pod a node, whatever else runs there; of a new kind as of the one before.
    pub fn spread(&self) -> Value {
        let mut object = self.object();
        pod_of(&mut object)["topologySpreadConstraints"] = json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": self.name } },
            "matchLabelKeys": ["pod-template-hash"],
        }]);
        object
    }
}

/// The spec of the pods of a workload.
pub fn pod_of(workload: &mut Value) -> &mut Value {
    &mut workload["spec"]["template"]["spec"]
}

/// The server; ready when the first of its TCP ports takes connections.
fn container(cluster: &str, ports: &str) -> Value {
    let variable = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut container = json!({
        "name": "server",
        "image": WORKLOAD,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            { "name": "CLUSTER", "value": cluster },
            variable("NODE", "spec.nodeName"),
            variable("POD", "metadata.name"),
            { "name": "PORTS", "value": ports },
        ],
    });
    let probed = ports.split(',').find_map(|port| port.strip_suffix("/TCP")?.parse::<u16>().ok());
    if let Some(port) = probed {
        container["readinessProbe"] = json!({ "tcpSocket": { "port": port }, "periodSeconds": 1 });
    }
    container
}

/// A port of a Service: its name, its protocol, its number, and that of the pods.
pub type Port<'a> = (&'a str, &'a str, u16, u16);

/// A Service before the workload of the same name.
pub fn service(name: &str, ports: &[Port<'_>]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, port, target)| {
            json!({ "name": name, "protocol": protocol, "port": port, "targetPort": target })
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "selector": { "app": name }, "ports": ports },
    })
}

/// The same, offered to the mesh.
pub fn global_service(name: &str, ports: &[Port<'_>]) -> Value {
    let mut service = service(name, ports);
    service["metadata"]["annotations"] = json!({ "mesh.isthmus.io/global": "true" });
    service
}

/// Several objects as one text to apply.
pub fn manifests<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let objects: Vec<String> = objects.into_iter().map(Value::to_string).collect();
    objects.join("\n---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_probed_at_their_first_tcp_port_and_those_without_one_are_not() {
        let probe = |ports| container("cluster-a", ports)["readinessProbe"]["tcpSocket"]["port"].clone();
        assert_eq!(probe("9090/UDP,8080/TCP"), 8080);
        assert_eq!(probe("9090/UDP"), Value::Null);
        assert_eq!(probe(""), Value::Null);
    }

    #[test]
    fn several_objects_are_one_text_that_is_yaml() {
        let web = Workload { kind: "StatefulSet", name: "web", cluster: "cluster-a", ports: "80/TCP", replicas: 2 };
        let text = manifests([&web.object(), &web.spread(), &global_service("web", &[("http", "TCP", 80, 8080)])]);
        assert_eq!(text.split("\n---\n").count(), 3);
        let service: Value = serde_json::from_str(text.rsplit("\n---\n").next().unwrap()).unwrap();
        assert_eq!(service["metadata"]["annotations"]["mesh.isthmus.io/global"], "true");
        assert_eq!(web.object()["spec"]["serviceName"], "web");
    }
}
