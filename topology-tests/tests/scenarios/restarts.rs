//! Processes killed with SIGKILL: what the kernel holds goes on, and what comes back finds it.

use std::time::{Duration, Instant};

use topology_tests::components::Encryption;
use topology_tests::deadline::wait_for;
use topology_tests::load::record::Record;
use topology_tests::load::{Plan, Target};
use topology_tests::scenario::{Scenario, Setup};

/// How long a process stays away.
const DOWN_FOR: Duration = Duration::from_secs(5);

fn joined(name: &'static str) -> Option<Scenario> {
    let scenario = Setup::shop(name).unwrap().start().unwrap()?;
    scenario.connect().unwrap();
    let client = scenario.lab.pod("frontend-0").unwrap();
    for service in targets(&scenario) {
        scenario.ask_until_answered(&client, &format!("http://{}", service.address), DOWN_FOR).unwrap();
    }
    Some(scenario)
}

/// The global service, and the one that exists only in cluster-b.
fn targets(s: &Scenario) -> Vec<Target> {
    [("cluster-a", "shop", "catalog"), ("cluster-b", "books", "ledger")]
        .map(|(cluster, namespace, name)| Target {
            name: name.into(),
            address: (s.lab.cluster_ip(cluster, namespace, name).unwrap(), 80).into(),
        })
        .into()
}

/// Runs `fault` while requests and long-lived connections go on; gives what failed.
pub(crate) fn failures_during(s: &Scenario, fault: impl FnOnce()) -> Vec<Record> {
    let client = s.lab.pod("frontend-0").unwrap();
    let plan = Plan { targets: targets(s), rate: 50, long: 4, large_every: 50 };
    let mut load = s.lab.start_load(&client, "load", &plan).unwrap();
    let mut records = Vec::new();
    let mut wait_more = |load: &mut topology_tests::load::running::Running, more: usize| {
        let want = records.len() + more;
        wait_for("more answers", Duration::from_secs(10), || {
            records.extend(load.read_new()?);
            Ok((records.len() >= want).then_some(()))
        })
        .unwrap();
    };
    wait_more(&mut load, 50);
    fault();
    wait_more(&mut load, 100);
    records.extend(load.stop().unwrap());
    records.into_iter().filter(Record::is_failure).collect()
}

/// Lets the load run on for a while: the time that a process is away is what the scenario is about.
fn stay_away() {
    let until = Instant::now() + DOWN_FOR;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_agent_away_for_five_seconds_costs_no_request() {
    let Some(s) = joined("agentaway") else { return };
    let client = s.lab.pod("frontend-0").unwrap();
    let failures = failures_during(&s, || {
        s.mesh.kill_agent(&client.node).unwrap();
        stay_away();
        s.mesh.start_agent(&s.lab, &client.node).unwrap();
        s.mesh.wait_agent_ready(&s.lab, &client.node).unwrap();
    });
    assert!(failures.is_empty(), "{failures:?}");
    s.end().unwrap();
}

#[test]
fn an_api_server_away_for_five_seconds_costs_no_request_and_comes_back_where_it_was() {
    let Some(s) = joined("apiaway") else { return };
    let before = revision(&s, "cluster-a");
    let failures = failures_during(&s, || {
        s.mesh.kill_apiservers(&s.lab, "cluster-a").unwrap();
        stay_away();
        s.mesh.start_apiservers(&s.lab, "cluster-a").unwrap();
        s.mesh.wait_apiservers_ready(&s.lab, "cluster-a").unwrap();
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert!(revision(&s, "cluster-a") >= before, "the revision went back");
    s.end().unwrap();
}

/// What every replica of a cluster has applied.
fn revision(s: &Scenario, cluster: &str) -> f64 {
    let replicas = s.mesh.running_apiservers(cluster);
    let revisions = replicas.iter().map(|id| s.apiserver_metric(cluster, *id, "isthmus_store_revision", "").unwrap());
    revisions.fold(f64::INFINITY, f64::min)
}

#[test]
fn a_killed_tunnel_lets_nothing_out_in_clear_and_is_back_soon() {
    let mut setup = Setup::shop("tunnelaway").unwrap();
    setup.encryption = Encryption::Wireguard;
    let Some(s) = setup.start().unwrap() else { return };
    if s.mesh.has_kernel_wireguard() {
        println!("skipped: the kernel has WireGuard, there is no tunnel process to kill");
        return;
    }
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let ledger = s.service("http", "cluster-b", "books", "ledger", 80).unwrap();
    s.ask_until_answered(&client, &ledger, DOWN_FOR).unwrap();
    s.lab.wan.reset_counters().unwrap();
    s.mesh.kill_tunnel(&client.node).unwrap();
    for _ in 0..3 {
        assert!(s.ask(&client, &ledger, 100).unwrap().error.is_some(), "answered without a tunnel");
    }
    assert_eq!(s.lab.wan.counters().unwrap().clear, 0, "{:?}", s.lab.wan.clear_seen());
    s.mesh.start_tunnel(&s.lab, &client.node).unwrap();
    let started = Instant::now();
    s.ask_until_answered(&client, &ledger, DOWN_FOR).unwrap();
    println!("the tunnel works again after {:?}", started.elapsed());
    assert_eq!(s.lab.wan.counters().unwrap().clear, 0, "{:?}", s.lab.wan.clear_seen());
    s.end().unwrap();
}
