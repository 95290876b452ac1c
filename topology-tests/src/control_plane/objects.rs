//! Kubernetes objects with status, as an API server would show them. Pure.

use serde_json::{Value, json};

use super::pod::{Phase, PodRecord};
use crate::manifest::name_of;
use crate::topology::{ClusterPlan, NodePlan};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { NAME_LABEL: name } } })
}

/// A namespace of a manifest with the label that every API server adds.
pub(super) fn with_name_label(namespace: &Value) -> Value {
    let mut labelled = namespace.clone();
    labelled["metadata"]["labels"][NAME_LABEL] = name_of(namespace).into();
    labelled
}

pub(super) fn node(cluster: &ClusterPlan, node: &NodePlan) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": { "kubernetes.io/hostname": node.name, "topology.kubernetes.io/zone": zone(cluster, &node.name) },
        },
        "spec": { "podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr] },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": node.ip },
                { "type": "Hostname", "address": node.name },
            ],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

pub(super) fn pod(cluster: &ClusterPlan, pod: &PodRecord) -> Value {
    let truth = |fact: bool| if fact { "True" } else { "False" };
    let phase = if pod.phase == Phase::Pending { "Pending" } else { "Running" };
    let containers: Vec<Value> = pod.template.containers.iter().map(container).collect();
    let (owner_kind, owner_name) = &pod.owner;
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "labels": pod.template.labels,
            "annotations": pod.template.annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": owner_kind, "name": owner_name, "controller": true,
                "uid": format!("{}-{owner_kind}-{owner_name}", cluster.name),
            }],
        },
        "spec": {
            "nodeName": pod.node,
            "serviceAccountName": pod.template.service_account,
            "containers": containers,
        },
        "status": {
            "phase": phase,
            "hostIP": pod.host_ip,
            "conditions": [
                { "type": "PodScheduled", "status": "True" },
                { "type": "Initialized", "status": truth(pod.ip.is_some()) },
                { "type": "ContainersReady", "status": truth(pod.is_ready) },
                { "type": "Ready", "status": truth(pod.is_ready) },
            ],
        },
    });
    if let Some(ip) = pod.ip {
        object["status"]["podIP"] = ip.to_string().into();
        object["status"]["podIPs"] = json!([{ "ip": ip }]);
    }
    object
}

/// Each node of the lab is a zone of its own.
pub(super) fn zone(cluster: &ClusterPlan, node: &str) -> String {
    format!("{}-{node}", cluster.name)
}

fn container(container: &crate::manifest::Container) -> Value {
    let ports: Vec<Value> = container
        .ports
        .iter()
        .map(|port| json!({ "name": port.name, "containerPort": port.container_port, "protocol": port.protocol }))
        .collect();
    json!({ "name": container.name, "image": container.image, "ports": ports })
}
