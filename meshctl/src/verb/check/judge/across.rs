//! What clusters must not have in common, as far as it shows without asking the servers.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::verb::check::facts::Facts;
use crate::verb::check::finding::{Finding, Findings};

/// Of all clusters that are checked together.
pub(crate) fn across(all: &[Facts]) -> Vec<Finding> {
    let mut found = Findings::of("between clusters");
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut ids: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (facts, mesh) in all.iter().filter_map(|facts| Some((facts, facts.mesh.as_ref()?))) {
        names.entry(&mesh.cluster).or_default().push(&facts.context);
        if let Some(id) = mesh.id {
            ids.entry(id).or_default().push(&facts.context);
        }
    }
    for (name, who) in names.iter().filter(|(_, who)| who.len() > 1) {
        found.fail(
            "name",
            format!("{} have the name {name:?}", who.join(" and ")),
            "uninstall one, and install it with another cluster.name: names are unique in a mesh",
        );
    }
    for (id, who) in ids.iter().filter(|(_, who)| who.len() > 1) {
        found.fail(
            "id",
            format!("{} have the id {id}", who.join(" and ")),
            "uninstall one, and install it with another cluster.id: ids are unique in a mesh",
        );
    }
    for (i, a) in all.iter().enumerate() {
        for b in &all[i + 1..] {
            for (check, of) in [("pod-cidrs", pods as fn(&Facts) -> Vec<IpNet>), ("service-cidrs", services)] {
                if let Some((one, other)) = overlap(&of(a), &of(b)) {
                    found.fail(
                        check,
                        format!("{one} of {} and {other} of {} have addresses in common", a.context, b.context),
                        "clusters of a mesh need prefixes of their own: rebuild one with others",
                    );
                }
            }
        }
    }
    if all.len() > 1 {
        found.well_unless_said("id", "names and ids are unique");
        found.well_unless_said("pod-cidrs", "no prefix is in two clusters");
    }
    found.all
}

fn pods(facts: &Facts) -> Vec<IpNet> {
    let named = facts.mesh.as_ref().map(|mesh| mesh.pod_cidrs.clone()).unwrap_or_default();
    let nodes = facts.nodes.known().map(Vec::as_slice).unwrap_or_default();
    if named.is_empty() { nodes.iter().flat_map(|node| node.pod_cidrs.clone()).collect() } else { named }
}

fn services(facts: &Facts) -> Vec<IpNet> {
    facts.service_cidrs.known().cloned().unwrap_or_default()
}

fn overlap(a: &[IpNet], b: &[IpNet]) -> Option<(IpNet, IpNet)> {
    a.iter()
        .flat_map(|one| b.iter().map(move |other| (*one, *other)))
        .find(|(one, other)| one.contains(&other.network()) || other.contains(&one.network()))
}
