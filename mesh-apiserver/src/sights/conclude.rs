//! From what each agent sees to one verdict per cluster. Pure.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::v1;
use mesh_types::ClusterName;

/// So many agents must say that they reach nothing of a cluster; one, where the own cluster has no second node.
const QUORUM: usize = 2;

/// Whether packets reach a cluster, as enough agents see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Up,
    /// The agents that say so.
    Down(Vec<String>),
    /// The agents that reach nothing of it, too few to count.
    Unknown(Vec<String>),
}

/// All agents together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Conclusion {
    pub(super) clusters: BTreeMap<ClusterName, Seen>,
    /// Why the reports say nothing about other clusters: the own nodes seem to have lost each other.
    pub(super) own_side: Option<String>,
}

/// `own_nodes` are those that the source knows: what an agent of a node that is gone said does not count.
///
/// # Invariants
/// - One agent that reaches one node of a cluster is enough for `Up`: what the others miss is theirs.
/// - One that reaches a sampled node keeps a cluster from being `Down`; it does not make it `Up`, since a sample is seconds old.
/// - While fewer than half of the agents that were heard before still report, no cluster is `Down`.
pub(super) fn conclude(own_nodes: &BTreeSet<String>, replicas: &[v1::AwaitSightsResponse]) -> Conclusion {
    let agents = || replicas.iter().flat_map(|sights| &sights.agents).filter(|agent| own_nodes.contains(&agent.node));
    let heard: BTreeSet<&str> = agents().map(|agent| agent.node.as_str()).collect();
    let reporting: BTreeSet<&str> = agents().filter(|agent| agent.reporting).map(|agent| agent.node.as_str()).collect();
    let is_torn = heard.len() >= QUORUM && reporting.len() * 2 < heard.len();
    let reached: BTreeSet<&str> = replicas.iter().flat_map(|sights| &sights.reached).map(String::as_str).collect();
    let sampled: BTreeSet<&str> = replicas.iter().flat_map(|sights| &sights.sampled).map(String::as_str).collect();
    let mut unreached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for agent in agents().filter(|agent| agent.reporting) {
        for cluster in &agent.unreached {
            unreached.entry(cluster).or_default().insert(&agent.node);
        }
    }
    let needed = if own_nodes.len() < QUORUM { 1 } else { QUORUM };
    let clusters = reached.iter().chain(unreached.keys()).filter_map(|name| {
        let by: Vec<String> = unreached.get(name).into_iter().flatten().map(|node| (*node).to_owned()).collect();
        let seen = if reached.contains(name) {
            Seen::Up
        } else if is_torn || by.len() < needed || sampled.contains(name) {
            Seen::Unknown(by)
        } else {
            Seen::Down(by)
        };
        // Agents know clusters by the view that this server sent them.
        Some((ClusterName::new(*name).ok()?, seen))
    });
    let own_side = is_torn.then(|| {
        format!(
            "only {} of {} agents report with their tunnel up: the own nodes seem to have lost each other",
            reporting.len(),
            heard.len()
        )
    });
    Conclusion { clusters: clusters.collect(), own_side }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(agents: &[(&str, bool, &[&str])], reached: &[&str]) -> v1::AwaitSightsResponse {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let sight = |(node, reporting, unreached): &(&str, bool, &[&str])| v1::AgentSight {
            node: (*node).to_owned(),
            reporting: *reporting,
            unreached: texts(unreached),
        };
        let agents = agents.iter().map(sight).collect();
        v1::AwaitSightsResponse { version: 1, agents, reached: texts(reached), sampled: Vec::new() }
    }

    fn sampling(mut replica: v1::AwaitSightsResponse) -> v1::AwaitSightsResponse {
        replica.sampled = vec!["b".to_owned()];
        replica
    }

    fn of(own_nodes: &[&str], replicas: &[v1::AwaitSightsResponse]) -> (String, bool) {
        let own_nodes = own_nodes.iter().map(|node| (*node).to_owned()).collect();
        let found = conclude(&own_nodes, replicas);
        let b = found.clusters.get(&ClusterName::new("b").unwrap());
        let word = match b {
            None => "none".to_owned(),
            Some(Seen::Up) => "up".to_owned(),
            Some(Seen::Down(by)) => format!("down by {}", by.join(",")),
            Some(Seen::Unknown(by)) => format!("unknown, not by {}", by.join(",")),
        };
        (word, found.own_side.is_some())
    }

    #[test]
    fn several_agents_or_the_only_one_decide_and_one_that_reaches_it_is_enough() {
        let b: &[&str] = &["b"];
        let none: &[&str] = &[];
        let table = [
            ("nobody probes", &["a1", "a2"][..], vec![replica(&[("a1", true, none)], &[])], "none", false),
            (
                "both reach nothing",
                &["a1", "a2"],
                vec![replica(&[("a1", true, b), ("a2", true, b)], &[])],
                "down by a1,a2",
                false,
            ),
            (
                "over two replicas",
                &["a1", "a2"],
                vec![replica(&[("a1", true, b)], &[]), replica(&[("a2", true, b)], &[])],
                "down by a1,a2",
                false,
            ),
            ("one of two", &["a1", "a2"], vec![replica(&[("a1", true, b), ("a2", true, none)], &["b"])], "up", false),
            (
                "one says, the other does not probe",
                &["a1", "a2"],
                vec![replica(&[("a1", true, b)], &[])],
                "unknown, not by a1",
                false,
            ),
            (
                "two reach nothing, and a third a sampled node",
                &["a1", "a2", "a3"],
                vec![sampling(replica(&[("a1", true, b), ("a2", true, b), ("a3", true, none)], &[]))],
                "unknown, not by a1,a2",
                false,
            ),
            (
                "all that sample reach it",
                &["a1", "a2"],
                vec![sampling(replica(&[("a1", true, none)], &[]))],
                "none",
                false,
            ),
            ("the only node", &["a1"], vec![replica(&[("a1", true, b)], &[])], "down by a1", false),
            (
                "an agent that moved speaks once",
                &["a1", "a2"],
                vec![replica(&[("a1", false, b)], &[]), replica(&[("a1", true, b)], &[])],
                "unknown, not by a1",
                false,
            ),
            (
                "a node that is gone from the source",
                &["a1", "a2"],
                vec![replica(&[("a1", true, b), ("old", true, b)], &[])],
                "unknown, not by a1",
                false,
            ),
            (
                "most own agents are not heard any more",
                &["a1", "a2", "a3", "a4", "a5"],
                vec![replica(
                    &[("a1", true, b), ("a2", true, b), ("a3", false, b), ("a4", false, b), ("a5", false, b)],
                    &[],
                )],
                "unknown, not by a1,a2",
                true,
            ),
            (
                "half of them are",
                &["a1", "a2"],
                vec![replica(&[("a1", true, b), ("a2", false, b)], &[])],
                "unknown, not by a1",
                false,
            ),
        ];
        for (what, own_nodes, replicas, want, torn) in table {
            assert_eq!(of(own_nodes, &replicas), (want.to_owned(), torn), "{what}");
        }
    }
}
