//! What the own cluster's agents see of other clusters, put together: from reports of single paths to one verdict each.
//!
//! ```text
//!  presence of each replica --of_agents--> Sights --AwaitSights--+
//!                                                                v
//!                        controller's replica: gather --conclude (pure)--> federation::Outlook
//! ```
//! Must never conclude anything about a cluster by itself: that is `federation::liveness`' judgement.

mod conclude;
mod gather;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_proto::v1;
use mesh_types::NodeName;

pub use gather::Gather;

use crate::agent_api::AgentState;

/// An agent that has not reported for longer says nothing about paths: it reports every 2 s.
const FRESH: Duration = Duration::from_secs(6);

/// What the agents of one replica see now.
pub(crate) fn of_agents(
    agents: &BTreeMap<NodeName, AgentState>,
    version: u64,
    now: Instant,
) -> v1::AwaitSightsResponse {
    let mut sights = v1::AwaitSightsResponse { version, ..v1::AwaitSightsResponse::default() };
    for (node, agent) in agents {
        let Some(report) = &agent.report else { continue };
        let is_fresh = agent.reported_at.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
        let reached = by_best_path(&report.paths);
        // What is in use is looked at often, and says more than any sample.
        let mut sampled = by_best_path(&report.sampled_paths);
        sampled.retain(|cluster, _| !reached.contains_key(cluster));
        // An agent whose own tunnel is down reaches nobody, and tells nothing about anybody.
        let reporting = agent.streams > 0 && is_fresh && report.tunnel_up;
        let clusters = |of: &BTreeMap<&str, bool>, is_reached: bool| -> Vec<String> {
            let wanted = of.iter().filter(|(_, reached)| **reached == is_reached);
            wanted.map(|(cluster, _)| (*cluster).to_owned()).collect()
        };
        if reporting {
            sights.reached.extend(clusters(&reached, true));
            sights.sampled.extend(clusters(&sampled, true));
        }
        let unreached = [clusters(&reached, false), clusters(&sampled, false)].concat();
        sights.agents.push(v1::AgentSight { node: node.0.clone(), reporting, unreached });
    }
    for clusters in [&mut sights.reached, &mut sights.sampled] {
        clusters.sort_unstable();
        clusters.dedup();
    }
    sights
}

/// Whether any path to a cluster is up, by cluster.
fn by_best_path(paths: &[v1::PathStatus]) -> BTreeMap<&str, bool> {
    let mut reached = BTreeMap::new();
    for path in paths {
        *reached.entry(path.cluster.as_str()).or_default() |= path.up;
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(streams: usize, tunnel_up: bool, reported_at: Instant, paths: &[(&str, bool)]) -> AgentState {
        let path = |(cluster, up): &(&str, bool)| v1::PathStatus {
            cluster: (*cluster).to_owned(),
            up: *up,
            ..v1::PathStatus::default()
        };
        let paths = paths.iter().map(path).collect();
        let report = Some(v1::ReportStatusRequest { paths, tunnel_up, ..v1::ReportStatusRequest::default() });
        AgentState { streams, since_unix_nanos: 0, report, reported_at: Some(reported_at) }
    }

    fn sampling(mut agent: AgentState, now: Instant, paths: &[(&str, bool)]) -> AgentState {
        let sampled = self::agent(1, true, now, paths).report.unwrap().paths;
        agent.report.as_mut().unwrap().sampled_paths = sampled;
        agent
    }

    #[test]
    fn an_agent_speaks_for_a_cluster_by_its_best_path_and_only_while_it_can_know() {
        let then = Instant::now();
        let now = then + Duration::from_secs(5);
        let agents: BTreeMap<NodeName, AgentState> = [
            ("well", agent(1, true, now, &[("b", true), ("b", false), ("c", false)])),
            ("gone", agent(0, true, now, &[("b", false)])),
            ("quiet", agent(1, true, then, &[("b", false)])),
            ("tunnel down", agent(1, false, now, &[("b", false), ("d", true)])),
            ("said nothing", AgentState { streams: 1, ..AgentState::default() }),
            ("samples", sampling(agent(1, true, now, &[("b", true)]), now, &[("b", false), ("d", true), ("e", false)])),
        ]
        .map(|(name, agent)| (NodeName(name.to_owned()), agent))
        .into();
        let rows = |at: Instant| -> Vec<(String, bool, String)> {
            let sights = of_agents(&agents, 7, at);
            assert_eq!((sights.version, sights.reached), (7, vec!["b".to_owned()]));
            assert_eq!(sights.sampled, vec!["d".to_owned()]);
            sights.agents.into_iter().map(|a| (a.node, a.reporting, a.unreached.join(","))).collect()
        };
        let row = |node: &str, reporting, unreached: &str| (node.to_owned(), reporting, unreached.to_owned());
        let want = |quiet| {
            vec![
                row("gone", false, "b"),
                row("quiet", quiet, "b"),
                row("samples", true, "e"),
                row("tunnel down", false, "b"),
                row("well", true, "c"),
            ]
        };
        assert_eq!(rows(now), want(true));
        assert_eq!(rows(then + FRESH), want(false));
    }
}
