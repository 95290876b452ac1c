//! `SERVICES`, `BACKENDS`: which frontends a service has here and which backends each of them uses.

use std::net::IpAddr;

use agent_ebpf_common::{Backend, ServiceKey};
use mesh_types::select::{Candidate, Consumer, select};
use mesh_types::view::{Service, ServiceBackend};
use mesh_types::{BackendState, ClusterName, NamedPort, Protocol, ServiceName};

use super::claims::Claim;
use super::{Facts, Refusal};
use crate::desired::ServiceGroup;

/// A frontend with the backends of new connections, sorted by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontendPlan {
    pub key: ServiceKey,
    pub claim: Claim,
    pub backends: Vec<BackendPlan>,
    /// The address is this service's, and is not translated here. So a cluster whose agents are cut off from their server
    /// has working names and Services, and agents find a server that has moved: what an agent holds is as old as its view.
    pub is_left: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendPlan {
    pub backend: Backend,
    pub weight: u16,
}

/// What one service name needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicePlan {
    pub frontends: Vec<FrontendPlan>,
    pub refusals: Vec<Refusal>,
}

/// A backend with the port it serves for one frontend port.
struct Choice<'a> {
    backend: &'a ServiceBackend,
    port: u16,
    cluster: u32,
    is_remote: bool,
    reachable: bool,
}

impl Candidate for Choice<'_> {
    fn cluster(&self) -> &ClusterName {
        &self.backend.cluster
    }
    fn state(&self) -> BackendState {
        self.backend.state
    }
    fn reachable(&self) -> bool {
        self.reachable
    }
    fn weight(&self) -> u16 {
        self.backend.weight
    }
}

pub fn plan(facts: Facts<'_>, name: &ServiceName, group: &ServiceGroup) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let Some(own) = facts.local() else { return plan };
    let local = group.declared.get(&own.name);
    let is_left = facts.leaves_own_services && local.is_some_and(|service| !service.global);
    let consumer = Consumer { cluster: &own.name, local: local.map(|s| (s.global, &s.prefers)) };
    for service in declarations(&own.name, group) {
        for frontend in &service.frontends {
            let IpAddr::V4(address) = frontend.address else {
                plan.refuse(name, "ipv6", format!("frontend {}: IPv6 is not supported yet", frontend.address));
                continue;
            };
            for port in &frontend.ports {
                if port.protocol == Protocol::Sctp {
                    plan.refuse(name, "sctp", format!("port {}: SCTP is not supported yet", port.port));
                    continue;
                }
                let key = ServiceKey {
                    addr: address.into(),
                    port_be: port.port.to_be(),
                    proto: port.protocol.number(),
                    pad: 0,
                };
                let claim =
                    Claim { is_remote: local.is_none(), cluster: service.cluster.clone(), service: name.clone() };
                let backends = if is_left { Vec::new() } else { backends(facts, consumer, group, port) };
                plan.frontends.push(FrontendPlan { key, claim, backends, is_left });
            }
        }
    }
    plan
}

impl ServicePlan {
    fn refuse(&mut self, name: &ServiceName, reason: &'static str, text: impl Into<String>) {
        self.refusals.push(Refusal { kind: "service", name: name.to_string(), reason, text: text.into() });
    }
}

/// The own cluster's declaration decides; where it has none, every remote cluster that shares the service is one.
fn declarations<'a>(own: &'a ClusterName, group: &'a ServiceGroup) -> impl Iterator<Item = &'a Service> {
    let local = group.declared.get(own);
    let remote = group.declared.values().filter(move |s| local.is_none() && s.global && s.shared);
    local.into_iter().chain(remote)
}

fn backends(facts: Facts<'_>, consumer: Consumer<'_>, group: &ServiceGroup, port: &NamedPort) -> Vec<BackendPlan> {
    let choices: Vec<Choice<'_>> = group.backends.values().filter_map(|b| choice(facts, group, b, port)).collect();
    let chosen = select(consumer, &choices).into_iter();
    let mut out: Vec<BackendPlan> = chosen
        .map(|chosen| BackendPlan { backend: choices[chosen.index].backend(port.protocol), weight: chosen.weight })
        .collect();
    out.sort_unstable_by_key(|b| (b.backend.addr.octets(), u16::from_be(b.backend.port_be)));
    out.dedup_by_key(|b| (b.backend.addr, b.backend.port_be));
    out
}

/// `None` for a backend that this port or this cluster cannot use at all.
fn choice<'a>(
    facts: Facts<'_>,
    group: &ServiceGroup,
    backend: &'a ServiceBackend,
    port: &NamedPort,
) -> Option<Choice<'a>> {
    let cluster = facts.view.cluster(&backend.cluster)?;
    let shared = || group.declared.get(&backend.cluster).is_some_and(|s| s.global && s.shared);
    if !backend.address.is_ipv4() || !cluster.is_local && !shared() {
        return None;
    }
    let served = backend.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol)?;
    let reachable = cluster.is_local || facts.agrees(cluster) && reaches(facts, backend);
    Some(Choice { backend, port: served.port, cluster: cluster.id.get(), is_remote: !cluster.is_local, reachable })
}

/// Known by address, so that a packet to it finds its node, and the node answers probes.
fn reaches(facts: Facts<'_>, backend: &ServiceBackend) -> bool {
    let host = facts.view.ip_of(&backend.cluster, backend.address).and_then(|ip| ip.host);
    host.is_some_and(|host| facts.may_send_to(host) && facts.path_is_up(host))
}

impl Choice<'_> {
    fn backend(&self, protocol: Protocol) -> Backend {
        let flags = if self.is_remote { Backend::FLAG_REMOTE } else { 0 };
        Backend {
            addr: self.backend.address.into(),
            port_be: self.port.to_be(),
            proto: protocol.number(),
            flags: flags | Backend::FLAG_LIVE,
            cluster: self.cluster,
        }
    }
}

#[cfg(test)]
mod tests;
