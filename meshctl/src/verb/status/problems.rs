//! What is not well in a cluster's status, each with its object. An empty list is what "well" means.

use jiff::Timestamp;
use serde::Serialize;

use super::report::{Agent, ClusterReport};
use crate::age;
use crate::verb::certs::report::State;
use crate::verb::peers::Peer;

/// One thing that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) object: String,
    pub(super) problem: String,
}

pub(super) fn of(report: &ClusterReport, now: Timestamp) -> Vec<Problem> {
    let mut found = Vec::new();
    let store = &report.store;
    if store.ready_replicas < store.replicas {
        found.push(problem("store", format!("{} of {} replicas are ready", store.ready_replicas, store.replicas)));
    }
    if !report.source.trouble.is_empty() {
        let (since, why) = (age::since(now, report.source.trouble_since), &report.source.trouble);
        found.push(problem("source", format!("not followed for {since}, what was read before counts on: {why}")));
    }
    for error in &report.source.errors {
        found.push(problem(&error.object, format!("left out: {}", error.error)));
    }
    if !report.own_side.is_empty() {
        let text = format!("{}; no cluster is withdrawn meanwhile, local backends serve on", report.own_side);
        found.push(problem("own side", text));
    }
    if let Some(first) = report.first_to_expire.as_ref().filter(|first| first.state != State::Ok) {
        let word = if first.state == State::Expired { "expired" } else { "expires" };
        let end = first.not_after.map_or_else(|| "at an unknown time".to_owned(), |end| format!("at {end}"));
        let text = format!("{} of {} {word} {end}: see `meshctl certs status`", first.name, first.holder);
        found.push(problem("certificates", text));
    }
    if let Some(rotation) = report.rotation.as_ref().filter(|rotation| !rotation.is_over) {
        let since = age::since(now, rotation.since);
        let waits: Vec<_> = rotation.awaited.iter().map(|one| one.party.as_str()).collect();
        let waits = if waits.is_empty() { String::new() } else { format!(", waiting for {}", waits.join(", ")) };
        let text = format!("a rotation of the CA is at stage {} for {since}{waits}", rotation.stage);
        found.push(problem("certificates", text));
    }
    for peer in &report.peers {
        of_peer(peer, now, &mut found);
    }
    for agent in &report.agents {
        of_agent(agent, !report.peers.is_empty() && report.encryption != "none", now, &mut found);
    }
    found
}

fn of_peer(peer: &Peer, now: Timestamp, found: &mut Vec<Problem>) {
    let object = format!("peer {}", peer.name);
    if !peer.is_live() {
        let reason = if peer.reason.is_empty() { String::new() } else { format!(": {}", peer.reason) };
        found.push(problem(&object, format!("{} for {}{reason}", peer.state, age::since(now, peer.since))));
    }
    if peer.paths.state == "down" && peer.is_live() {
        let (by, since) = (peer.paths.unreached_by.join(", "), age::since(now, peer.paths.since));
        found.push(problem(&object, format!("no path to any of its nodes for {since}, as {by} see it")));
    }
    if !peer.trust_refused.is_empty() {
        found.push(problem(&object, format!("its CAs stay as they were: {}", peer.trust_refused)));
    }
    for r in peer.resources.iter().filter(|r| r.rejected > 0) {
        let text = format!("{} keys of {} were rejected, the last: {}", r.rejected, r.kind, r.last_rejection);
        found.push(problem(&object, text));
    }
}

fn of_agent(agent: &Agent, needs_tunnel: bool, now: Timestamp, found: &mut Vec<Problem>) {
    let object = format!("agent {}", agent.node);
    if !agent.connected {
        found.push(problem(&object, format!("not connected for {}", age::since(now, agent.since))));
    }
    let Some(realized) = &agent.realized else {
        if agent.connected {
            found.push(problem(&object, "has not reported yet".to_owned()));
        }
        return;
    };
    if needs_tunnel && !realized.tunnel_up {
        found.push(problem(&object, "its tunnel is down: packets to joined clusters are dropped".to_owned()));
    }
    for path in realized.paths.iter().filter(|p| !p.up) {
        let to = format!("{}/{} ({})", path.cluster, path.node, path.address);
        found.push(problem(&object, format!("path to {to} is down for {}", age::since(now, path.since))));
    }
    for error in &realized.errors {
        found.push(problem(&object, format!("{} is not in the kernel: {}", error.object, error.error)));
    }
}

fn problem(object: &str, problem: String) -> Problem {
    Problem { object: object.to_owned(), problem }
}
