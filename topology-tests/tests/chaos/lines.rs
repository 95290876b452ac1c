//! Lines between replicas: what leaves for the others or comes from them is dropped in the replica's own namespace. Clients
//! still reach it.

use topology_tests::scenario::Scenario;

use crate::world::CLUSTER;

const TABLE: &str = "inet chaos";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It hears nothing of them.
    In,
    /// They hear nothing of it.
    Out,
    Both,
}

/// Cuts the lines between a replica and these others, in place of what was cut before.
pub(crate) fn cut(s: &Scenario, replica: u64, others: &[u64], way: Way) {
    let plan = s.lab.cluster_plan(CLUSTER).unwrap();
    let mut addresses = Vec::new();
    for other in plan.replicas.iter().filter(|plan| others.contains(&plan.id)) {
        // A replica answers at its own address, and calls from its node's.
        addresses.push(other.ip.to_string());
        addresses.push(plan.nodes.iter().find(|node| node.name == other.node).unwrap().ip.to_string());
    }
    let set = format!("{{ {} }}", addresses.join(", "));
    let mut script = vec![format!("add table {TABLE}; flush table {TABLE}")];
    let sides = [("input", "saddr", way != Way::Out), ("output", "daddr", way != Way::In)];
    for (hook, side, _) in sides.into_iter().filter(|(.., is_cut)| *is_cut) {
        script.push(format!("add chain {TABLE} {hook} {{ type filter hook {hook} priority 0; }}"));
        script.push(format!("add rule {TABLE} {hook} ip {side} {set} drop"));
    }
    nft(s, replica, &script.join("; "));
}

pub(crate) fn mend(s: &Scenario, replica: u64) {
    nft(s, replica, &format!("add table {TABLE}; delete table {TABLE}"));
}

fn nft(s: &Scenario, replica: u64, script: &str) {
    let place = &s.lab.node(&node_of(s, replica)).unwrap().place;
    s.lab.run_in(place, "nft", &[script]).unwrap();
}

pub(crate) fn node_of(s: &Scenario, replica: u64) -> String {
    let plan = s.lab.cluster_plan(CLUSTER).unwrap();
    plan.replicas.iter().find(|plan| plan.id == replica).unwrap().node.clone()
}
