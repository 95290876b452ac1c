//! A replica that the others no longer reach, while agents and clients still do.

use std::time::Duration;

use topology_tests::components::{APISERVER_METRICS_PORT, RAFT_PORT};
use topology_tests::deadline::wait_until;
use topology_tests::scenario::{Scenario, Setup};

const SOON: Duration = Duration::from_secs(20);
/// Of the Raft port only, in both directions.
const CUT: &str = "cut_raft";

fn nft(s: &Scenario, node: &str, line: &str) {
    let place = &s.lab.node(node).unwrap().place;
    s.lab.run_in(place, "nft", &line.split(' ').collect::<Vec<_>>()).unwrap();
}

fn cut_raft(s: &Scenario, node: &str) {
    nft(s, node, &format!("add table inet {CUT}"));
    for (hook, priority) in [("input", "0"), ("output", "0")] {
        nft(s, node, &format!("add chain inet {CUT} {hook} {{ type filter hook {hook} priority {priority} ; }}"));
        for side in ["sport", "dport"] {
            nft(s, node, &format!("add rule inet {CUT} {hook} tcp {side} {RAFT_PORT} drop"));
        }
    }
}

fn agents_of(s: &Scenario, replica: u64) -> f64 {
    s.apiserver_metric("cluster-a", replica, "isthmus_agents_connected", "").unwrap()
}

fn is_ready(s: &Scenario, replica: u64) -> bool {
    let plan = s.lab.cluster_plan("cluster-a").unwrap();
    let replica = plan.replicas.iter().find(|plan| plan.id == replica).unwrap();
    s.lab.answers_ok(&replica.node, (replica.ip, APISERVER_METRICS_PORT).into(), "/readyz")
}

#[test]
fn a_replica_that_lost_the_others_sends_its_agents_to_them() {
    let Some(s) = Setup::shop("cutoff").unwrap().start().unwrap() else { return };
    // Replica 2 is alone on a2. Agents prefer the replica that is named first, until it goes away.
    s.mesh.kill_apiserver("cluster-a", 1).unwrap();
    wait_until("both agents to have turned to replica 2", SOON, || agents_of(&s, 2) > 1.5).unwrap();
    s.mesh.start_apiserver(&s.lab, "cluster-a", 1).unwrap();
    s.mesh.wait_apiserver_ready(&s.lab, "cluster-a", 1).unwrap();

    cut_raft(&s, "a2");
    wait_until("the others to have both agents", SOON, || agents_of(&s, 1) + agents_of(&s, 3) > 1.5).unwrap();
    wait_until("replica 2 to have none", SOON, || agents_of(&s, 2) < 0.5).unwrap();
    assert!(!is_ready(&s, 2), "a replica without a leader says that it is ready");
    let status = s.status("cluster-a").unwrap();
    assert!(status.contains("\"agents\""), "{status}");

    nft(&s, "a2", &format!("delete table inet {CUT}"));
    wait_until("replica 2 to be ready again", SOON, || is_ready(&s, 2)).unwrap();
    s.connect().unwrap();
    s.end().unwrap();
}
