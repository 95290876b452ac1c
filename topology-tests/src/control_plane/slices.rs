//! EndpointSlices of a service, as Kubernetes' endpoint slice controller makes them: one slice per distinct set of resolved
//! ports, since pods may resolve a named port differently. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::objects::zone;
use super::pod::{Phase, PodRecord};
use crate::manifest::{PortRef, name_of, namespace_of};
use crate::topology::ClusterPlan;

/// Name, protocol, number.
type ResolvedPort = (String, String, u16);

pub(super) fn of_service<'a>(
    cluster: &ClusterPlan,
    service: &Value,
    pods: impl Iterator<Item = &'a PodRecord>,
) -> Vec<Value> {
    let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
        return Vec::new();
    };
    let namespace = namespace_of(service);
    let publishes_unready = service["spec"]["publishNotReadyAddresses"] == true;
    let selects = |pod: &&PodRecord| {
        let has = |(key, value): (&String, &Value)| pod.template.labels.get(key).map(String::as_str) == value.as_str();
        pod.namespace == namespace && pod.ip.is_some() && selector.iter().all(has)
    };
    // An empty slice says "this service has no endpoints", which is not the same as not being known.
    let mut groups: BTreeMap<Vec<ResolvedPort>, Vec<Value>> = BTreeMap::new();
    for pod in pods.filter(selects) {
        groups.entry(ports(service, pod)).or_default().push(endpoint(cluster, pod, publishes_unready));
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let numbered = groups.into_iter().enumerate();
    numbered.map(|(number, (ports, endpoints))| slice(service, number, &ports, &endpoints)).collect()
}

fn ports(service: &Value, pod: &PodRecord) -> Vec<ResolvedPort> {
    let declared = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let resolve = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let own = port["port"].as_u64().and_then(|number| u16::try_from(number).ok());
        let number = match serde_json::from_value::<PortRef>(port["targetPort"].clone()) {
            Ok(target) => pod.template.resolve(&target, protocol),
            Err(_no_target_port) => own,
        };
        Some((port["name"].as_str().unwrap_or_default().to_owned(), protocol.to_owned(), number?))
    };
    declared.iter().filter_map(resolve).collect()
}

fn endpoint(cluster: &ClusterPlan, pod: &PodRecord, publishes_unready: bool) -> Value {
    let is_terminating = pod.phase == Phase::Terminating;
    let address = pod.ip.map(|ip| ip.to_string()).unwrap_or_default();
    json!({
        "addresses": [address],
        "conditions": {
            "ready": (pod.is_ready && !is_terminating) || publishes_unready,
            "serving": pod.is_ready || publishes_unready,
            "terminating": is_terminating,
        },
        "nodeName": pod.node,
        "zone": zone(cluster, &pod.node),
        "targetRef": { "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid },
    })
}

fn slice(service: &Value, number: usize, ports: &[ResolvedPort], endpoints: &[Value]) -> Value {
    let (namespace, name) = (namespace_of(service), name_of(service));
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, number)| json!({ "name": name, "protocol": protocol, "port": number }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{number}"),
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "controller": true,
                "uid": format!("{namespace}-{name}"),
            }],
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}
