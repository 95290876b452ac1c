//! The lab's scheduler: replicas in turn on the nodes. Pure.

use serde_json::Value;

use crate::kubelet::pod::PodSpec;
use crate::manifest::{PortRef, Workload, namespace_of};

#[derive(Debug)]
pub(super) struct Assignment {
    /// Index of the node.
    pub(super) node: usize,
    pub(super) pod: PodSpec,
}

/// Every workload starts on the node after the last one's, so that single replicas spread as well.
pub(super) fn assign(workloads: &[Workload], services: &[Value], nodes: usize) -> Vec<Assignment> {
    let mut next = 0;
    let mut assigned = Vec::new();
    for workload in workloads {
        for replica in 0..workload.replicas {
            let pod = PodSpec {
                namespace: workload.namespace.clone(),
                name: format!("{}-{replica}", workload.name),
                owner: (workload.kind.clone(), workload.name.clone()),
                template: workload.template.clone(),
                undeclared_ports: undeclared_ports(workload, services),
            };
            assigned.push(Assignment { node: next % nodes, pod });
            next += 1;
        }
    }
    assigned
}

/// Ports by number that services send to these pods although no container declares them.
fn undeclared_ports(workload: &Workload, services: &[Value]) -> Vec<(u16, String)> {
    let selects = |service: &&Value| {
        let selector = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty());
        namespace_of(service) == workload.namespace
            && selector.is_some_and(|selector| {
                let has = |(key, value): (&String, &Value)| {
                    workload.template.labels.get(key).map(String::as_str) == value.as_str()
                };
                selector.iter().all(has)
            })
    };
    let ports = services.iter().filter(selects).filter_map(|service| service["spec"]["ports"].as_array()).flatten();
    let number = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
        match serde_json::from_value::<PortRef>(target.clone()) {
            Ok(PortRef::Number(number)) => Some((number, protocol)),
            _ => None,
        }
    };
    let is_declared = |wanted: &(u16, String)| {
        workload.template.ports().any(|port| port.container_port == wanted.0 && port.protocol == wanted.1)
    };
    ports.filter_map(number).filter(|wanted| !is_declared(wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifests;

    #[test]
    fn replicas_go_round_the_nodes_and_undeclared_ports_are_served() {
        let text = "
kind: Deployment
metadata: { name: one }
spec: { replicas: 3, template: { metadata: { labels: { app: one } }, spec: { containers: [ { name: c } ] } } }
---
kind: Service
metadata: { name: one }
spec: { selector: { app: one }, ports: [ { port: 80, targetPort: 8080 } ] }
";
        let read = Manifests::parse(text, "text").unwrap();
        let assigned = assign(&read.workloads, &read.services, 2);
        let nodes: Vec<usize> = assigned.iter().map(|assignment| assignment.node).collect();
        assert_eq!(nodes, [0, 1, 0]);
        assert_eq!(assigned[0].pod.ports(), "8080/TCP");
    }
}
