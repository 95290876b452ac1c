//! Why a cell failed, and the next command: from what the other cells did and what both meshes say of themselves. Pure.

use super::cell::{Cell, From as Client, To};
use crate::args::kubernetes::Protocol;

/// What a mesh says, as far as it explains a cell. `None` for a part that could not be asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    pub(super) context: String,
    /// Name in the mesh.
    pub(super) cluster: String,
    /// Why its admin API says nothing.
    pub(super) silent: Option<String>,
    /// Name, state and reason of each joined cluster.
    pub(super) peers: Vec<(String, String, String)>,
    /// Nodes whose agents are connected, and have a tunnel.
    pub(super) agents: Vec<Agent>,
    /// Its own prefixes for Services were declared.
    pub(super) has_service_prefixes: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) is_connected: bool,
    pub(super) has_tunnel: bool,
    /// Cluster and node of the other end.
    pub(super) down: Vec<(String, String)>,
}

/// How mesh-apiserver says that packets reach nothing of a cluster (`federation/src/session/board.rs`).
const NO_PATH: &str = "no path to any of its nodes";
const OPEN_THE_PORT: &str = "open 51881/udp between the nodes of both clusters (firewall, security groups), both ways";

/// A fault and what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Diagnosis {
    pub(super) fault: String,
    pub(super) next: String,
    /// This version does not carry it: no fault of anybody's clusters.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) not_served: bool,
}

/// `failed` are all cells that did.
pub(super) fn diagnose(cell: &Cell, why: &str, failed: &[&Cell], sides: &[Side], namespace: &str) -> Diagnosis {
    let (from, to) = (&sides[cell.from], &sides[cell.to]);
    let said = |fault: String, next: String| Diagnosis { fault, next, not_served: false };
    if why.contains("address is lost") {
        return said(
            format!("{why}: something between them masquerades"),
            format!(
                "have the CNI of {} (ipMasq, ip-masq-agent, nonMasqueradeCIDRs) leave out the pod prefixes of {}",
                from.context, to.context
            ),
        );
    }
    if cell.is_local() {
        return said(
            format!("{} does not reach itself: its CNI or kube-proxy, and not the mesh ({why})", from.context),
            format!("kubectl --context {} get nodes,pods -A; meshctl check --context {}", from.context, from.context),
        );
    }
    for side in [from, to] {
        if let Some(why) = &side.silent {
            return said(
                format!("the mesh of {} cannot be asked: {why}", side.context),
                format!("meshctl check --context {}", side.context),
            );
        }
    }
    for (here, there) in [(from, to), (to, from)] {
        match here.peers.iter().find(|(name, ..)| *name == there.cluster) {
            None => {
                return said(
                    format!("{} is not joined to {}", here.context, there.context),
                    format!("meshctl connect {} {}", from.context, to.context),
                );
            }
            Some((_, state, reason)) if state != "Live" => {
                let next = if reason.contains(NO_PATH) {
                    OPEN_THE_PORT.to_owned()
                } else {
                    format!("meshctl troubleshoot --context {} {}", here.context, there.cluster)
                };
                return said(format!("{} sees {} as {state}: {reason}", here.context, there.context), next);
            }
            Some(_) => {}
        }
    }
    if let Some(found) = agent(cell, from, to) {
        return found;
    }
    let is_of = |other: &&&Cell, target, protocol| {
        other.from == cell.from && other.to == cell.to && other.target == target && other.protocol == protocol
    };
    let fails = |target, protocol| failed.iter().any(|other| is_of(&other, target, protocol));
    if cell.target == To::Service && !fails(To::Pod, cell.protocol) {
        if !to.has_service_prefixes {
            return said(
                format!(
                    "{} takes no Service of {}: that one declared no prefixes for Services",
                    from.context, to.context
                ),
                format!(
                    "meshctl upgrade --context {} --set 'cluster.serviceCIDRs={{PREFIX}}', and connect anew",
                    to.context
                ),
            );
        }
        let is_by_pods = |other: &&&Cell| {
            other.from == cell.from && other.to == cell.to && other.client == Client::Pod && other.target == To::Service
        };
        if cell.client == Client::Host && !failed.iter().any(|other| is_by_pods(&other)) {
            let fault = format!(
                "pods of {} reach Services of {}; processes in its nodes' own network are not served in this version",
                from.context, to.context
            );
            let next = "run the client in a pod of its own network (no hostNetwork)".to_owned();
            return Diagnosis { fault, next, not_served: true };
        }
        return said(
            format!("the pods of {} are reached, and not by a Service of {}", to.context, from.context),
            format!(
                "meshctl get services --context {} -n {namespace}; meshctl status --context {}",
                from.context, from.context
            ),
        );
    }
    let other = if cell.protocol == Protocol::Tcp { Protocol::Udp } else { Protocol::Tcp };
    if !fails(cell.target, other) {
        return said(
            format!("{} passes, and {} does not ({why})", other.name(), cell.protocol.name()),
            format!("look for a NetworkPolicy or firewall in {} that knows the difference", to.context),
        );
    }
    said(
        format!("packets from {} (node {}) to {} are lost: {why}", from.context, cell.node, to.context),
        format!(
            "meshctl check --context {} --context {}; on the node: node-agent bpf dump counters names why packets are dropped",
            from.context, to.context
        ),
    )
}

/// Whether the agents at both ends are as they must be.
fn agent(cell: &Cell, from: &Side, to: &Side) -> Option<Diagnosis> {
    let said = |fault: String, next: String| Some(Diagnosis { fault, next, not_served: false });
    let Some(agent) = from.agents.iter().find(|agent| agent.node == cell.node) else {
        return said(
            format!("node {} of {} has no agent", cell.node, from.context),
            format!("meshctl check --context {}", from.context),
        );
    };
    if !agent.is_connected {
        return said(
            format!("the agent of node {} of {} is not connected to its mesh-apiserver", cell.node, from.context),
            format!(
                "kubectl --context {} logs of its node-agent pod; meshctl check --context {}",
                from.context, from.context
            ),
        );
    }
    if !agent.has_tunnel {
        return said(
            format!("node {} of {} has no tunnel: packets to other clusters are dropped", cell.node, from.context),
            format!(
                "meshctl upgrade --context {} --set tunnel.enabled=true, or modprobe wireguard on it",
                from.context
            ),
        );
    }
    if let Some((_, node)) = agent.down.iter().find(|(cluster, _)| *cluster == to.cluster) {
        return said(
            format!("no path from node {} of {} to node {node} of {}", cell.node, from.context, to.context),
            OPEN_THE_PORT.to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::connectivity::cell::From;

    fn sides() -> Vec<Side> {
        let side = |context: &str, cluster: &str, peer: &str, node: &str| Side {
            context: context.to_owned(),
            cluster: cluster.to_owned(),
            peers: vec![(peer.to_owned(), "Live".to_owned(), String::new())],
            agents: vec![Agent { node: node.to_owned(), is_connected: true, has_tunnel: true, down: Vec::new() }],
            has_service_prefixes: true,
            ..Side::default()
        };
        vec![side("ka", "a", "b", "a1"), side("kb", "b", "a", "b1")]
    }

    fn cell(to: usize, target: To, protocol: Protocol) -> Cell {
        let (pod, node, address) = ("p".to_owned(), "a1".to_owned(), "10.1.1.2".to_owned());
        Cell { from: 0, client: From::Pod, pod, node, address, to, target, protocol }
    }

    #[test]
    fn a_cluster_that_was_withdrawn_for_want_of_a_path_is_no_riddle() {
        let mut sides = sides();
        let reason = "no path to any of its nodes, as b1, b2 see it; its control plane answers".to_owned();
        sides[1].peers = vec![("a".to_owned(), "Withdrawn".to_owned(), reason)];
        let tcp = cell(1, To::Pod, Protocol::Tcp);
        let found = diagnose(&tcp, "no answer within 3000 ms", &[&tcp], &sides, "ns");
        assert_eq!(found.next, OPEN_THE_PORT);
        assert!(found.fault.contains("kb sees ka as Withdrawn: no path"), "{found:?}");
    }

    #[test]
    fn each_fault_is_named_with_the_next_command() {
        let timeout = "no answer within 3000 ms";
        let tcp = cell(1, To::Pod, Protocol::Tcp);
        let both = [tcp.clone(), cell(1, To::Pod, Protocol::Udp)];
        let of = |change: &dyn Fn(&mut Vec<Side>), cell: &Cell, why: &str, failed: &[Cell]| {
            let mut sides = sides();
            change(&mut sides);
            diagnose(cell, why, &failed.iter().collect::<Vec<_>>(), &sides, "ns")
        };
        let none = |_: &mut Vec<Side>| {};
        let rows: [(Diagnosis, &str, &str); 12] = [
            (
                of(&none, &cell(0, To::Pod, Protocol::Tcp), timeout, &both),
                "does not reach itself",
                "meshctl check --context ka",
            ),
            (of(&none, &tcp, "the client's address is lost: x", &both), "masquerades", "ipMasq"),
            (
                of(&|s| s[1].silent = Some("gone".into()), &tcp, timeout, &both),
                "kb cannot be asked: gone",
                "check --context kb",
            ),
            (of(&|s| s[0].peers.clear(), &tcp, timeout, &both), "ka is not joined to kb", "meshctl connect ka kb"),
            (of(&|s| s[1].peers.clear(), &tcp, timeout, &both), "kb is not joined to ka", "meshctl connect ka kb"),
            (
                of(&|s| s[0].peers[0].1 = "Stale".into(), &tcp, timeout, &both),
                "ka sees kb as Stale",
                "meshctl troubleshoot --context ka b",
            ),
            (of(&|s| s[0].agents.clear(), &tcp, timeout, &both), "node a1 of ka has no agent", "meshctl check"),
            (of(&|s| s[0].agents[0].is_connected = false, &tcp, timeout, &both), "is not connected", "logs"),
            (of(&|s| s[0].agents[0].has_tunnel = false, &tcp, timeout, &both), "has no tunnel", "tunnel.enabled=true"),
            (
                of(&|s| s[0].agents[0].down = vec![("b".into(), "b1".into())], &tcp, timeout, &both),
                "no path from node a1 of ka to node b1 of kb",
                "51881/udp",
            ),
            (
                of(&|s| s[1].has_service_prefixes = false, &cell(1, To::Service, Protocol::Tcp), timeout, &[]),
                "declared no prefixes",
                "cluster.serviceCIDRs",
            ),
            (of(&none, &cell(1, To::Service, Protocol::Tcp), timeout, &[]), "not by a Service", "meshctl get services"),
        ];
        for (found, fault, next) in rows {
            assert!(found.fault.contains(fault) && found.next.contains(next), "{found:?} lacks {fault:?} or {next:?}");
        }
        let host = Cell { client: Client::Host, ..cell(1, To::Service, Protocol::Tcp) };
        assert!(of(&none, &host, timeout, &[]).next.contains("no hostNetwork"));
        assert!(of(&none, &tcp, timeout, &both[..1]).fault.contains("udp passes, and tcp does not"));
        assert!(of(&none, &tcp, timeout, &both).next.contains("bpf dump counters"));
    }
}
