//! Which rules and routes a plan needs. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Options;
use crate::compile::plan::Plan;
use crate::names::{GUARD_METRIC, RULE_BY_DESTINATION, RULE_BY_SOURCE, TUNNEL_TABLE};
use crate::netlink::routes::{MAIN_TABLE, Route, Target};
use crate::netlink::rules::{Port, Rule};

/// Tunnel and probe packets look into the tunnel's table; by source port too, because reverse-path checks swap the ports.
pub(super) fn rules(options: &Options) -> Vec<Rule> {
    let ports = [options.vxlan_port, options.probe_port];
    let rule = |priority, port| Rule { priority, table: TUNNEL_TABLE, port };
    let by_destination = ports.map(|port| rule(RULE_BY_DESTINATION, Port::Destination(port)));
    let by_source = ports.map(|port| rule(RULE_BY_SOURCE, Port::Source(port)));
    by_destination.into_iter().chain(by_source).collect()
}

/// What remains when the secure device is gone. One for each peer, not a default: other traffic to that port is not ours.
pub(super) fn guards(plan: &Plan) -> Vec<Route> {
    let guard = |address: &Ipv4Addr| Route {
        table: TUNNEL_TABLE,
        destination: Ipv4Net::from(*address),
        metric: GUARD_METRIC,
        target: Target::Unreachable,
    };
    plan.peers.keys().map(guard).collect()
}

/// The source is named because the secure device has no address, and the kernel would pick some other one.
pub(super) fn through_tunnel(plan: &Plan, index: u32, node_ip: Ipv4Addr) -> Vec<Route> {
    let target = Target::Device { index, source: Some(node_ip), mtu: None };
    let route =
        |address: &Ipv4Addr| Route { table: TUNNEL_TABLE, destination: Ipv4Net::from(*address), metric: 0, target };
    plan.peers.iter().filter(|(_, peer)| peer.key.is_some()).map(|(address, _)| route(address)).collect()
}

/// The second line against a leak: an external VXLAN device drops what has no tunnel key. It also lets the kernel answer
/// "too big" for packets that may not be fragmented.
pub(super) fn prefixes(plan: &Plan, vxlan: u32, mtu: u32) -> Vec<Route> {
    let target = Target::Device { index: vxlan, source: None, mtu: Some(mtu) };
    let route = |prefix: &Ipv4Net| Route { table: MAIN_TABLE, destination: *prefix, metric: 0, target };
    plan.prefixes.iter().map(route).collect()
}

/// What the kernel tells routes apart by.
pub(super) fn key(route: &Route) -> (u32, Ipv4Net, u32) {
    (route.table, route.destination, route.metric)
}
