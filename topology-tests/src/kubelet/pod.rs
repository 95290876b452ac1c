//! What a kubelet is asked to run.

use std::collections::BTreeSet;

use crate::manifest::{PodTemplate, PortRef};

#[derive(Debug, Clone)]
pub struct PodSpec {
    pub namespace: String,
    pub name: String,
    /// Kind and name of the workload.
    pub owner: (String, String),
    pub template: PodTemplate,
    /// Ports that only a Service's `targetPort` names: containers need not declare what they listen on.
    pub undeclared_ports: Vec<(u16, String)>,
}

impl PodSpec {
    /// The workload's `PORTS`: `8080/TCP,53/UDP`.
    pub fn ports(&self) -> String {
        let declared = self.template.ports().map(|port| (port.container_port, port.protocol.clone()));
        let all: BTreeSet<(u16, String)> = declared.chain(self.undeclared_ports.iter().cloned()).collect();
        let written: Vec<String> = all.iter().map(|(number, protocol)| format!("{number}/{protocol}")).collect();
        written.join(",")
    }

    /// The first TCP port: what readiness falls back to.
    pub fn first_tcp_port(&self) -> Option<u16> {
        self.template
            .ports()
            .find(|port| port.protocol == "TCP")
            .map(|port| port.container_port)
            .or_else(|| self.undeclared_ports.iter().find(|(_, protocol)| protocol == "TCP").map(|(number, _)| *number))
    }

    /// The port that a probe means.
    pub fn probe_port(&self, port: &PortRef) -> Option<u16> {
        self.template.resolve(port, "TCP")
    }
}
