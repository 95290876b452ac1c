//! The WAN cut for a minute under load: local backends answer, remote ones go, everything is back soon after, by revision.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use topology_tests::clock::monotonic_ns;
use topology_tests::deadline::wait_for;
use topology_tests::load::record::{Kind, Record};
use topology_tests::load::{Plan, Target};
use topology_tests::scenario::{Scenario, Setup};

const CUT_FOR: Duration = Duration::from_mins(1);
/// Neither control nor packets come through: the only other cluster counts as dead. `staleness` measures it closer.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Three missed probes of 300 ms, one more period to notice, and the connect timeout of a request that began before.
const NOTICED_WITHIN_NS: u64 = 3_000_000_000;

/// The other cluster, as this one sees it.
fn peers(s: &Scenario, cluster: &str) -> Value {
    let text = s.meshctl(&["--context", cluster, "peers", "-o", "json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn peer_state(s: &Scenario, cluster: &str) -> String {
    find(&peers(s, cluster), "state").and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The first value of this name anywhere in a document.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(name).or_else(|| map.values().find_map(|v| find(v, name))),
        Value::Array(list) => list.iter().find_map(|v| find(v, name)),
        _ => None,
    }
}

/// Range calls that cluster-b's store served to cluster-a.
fn ranges_served(s: &Scenario) -> f64 {
    s.apiserver_metrics("cluster-b", "isthmus_store_range_total", "cluster-a").unwrap()
}

/// Addresses that cluster-a knows of cluster-b.
fn remote_addresses(s: &Scenario) -> BTreeSet<String> {
    let text =
        s.meshctl(&["--context", "cluster-a", "get", "endpoints", "--cluster", "cluster-b", "-o", "json"]).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let rows = value.as_array().cloned().unwrap_or_default();
    let all: Vec<String> = rows.iter().map(|row| row["prefix"].to_string() + &row["pod"].to_string()).collect();
    let unique: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(all.len(), unique.len(), "an address stands twice in {all:?}");
    unique
}

#[test]
fn a_partition_of_a_minute_costs_no_local_answer_and_heals_by_revision() {
    let Some(s) = Setup::shop("partition").unwrap().start().unwrap() else { return };
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let ledger = s.service("http", "cluster-b", "books", "ledger", 80).unwrap();
    s.ask_until_answered(&client, &ledger, Duration::from_secs(5)).unwrap();
    let before = remote_addresses(&s);
    assert!(!before.is_empty());
    let ranges = ranges_served(&s);

    let address = (s.lab.cluster_ip("cluster-a", "shop", "catalog").unwrap(), 80).into();
    let plan = Plan { targets: vec![Target { name: "catalog".into(), address }], rate: 50, long: 0, large_every: 50 };
    let mut load = s.lab.start_load(&client, "load", &plan).unwrap();
    let mut records: Vec<Record> = Vec::new();

    s.lab.wan.cut("cluster-b").unwrap();
    let (cut, cut_ns) = (Instant::now(), monotonic_ns());
    let mut withdrawn = None;
    while cut.elapsed() < CUT_FOR {
        records.extend(load.read_new().unwrap());
        if withdrawn.is_none() && peer_state(&s, "cluster-a") == "Withdrawn" {
            withdrawn = Some(cut.elapsed());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let withdrawn = withdrawn.expect("cluster-b was withdrawn");
    assert!(withdrawn <= WITHDRAWN_WITHIN, "withdrawn after {withdrawn:?}");

    s.lab.wan.restore("cluster-b").unwrap();
    let (healed, healed_ns) = (Instant::now(), monotonic_ns());
    wait_for("the peer to be live and to answer", BACK_WITHIN, || {
        let (a, b) = (peer_state(&s, "cluster-a"), peer_state(&s, "cluster-b"));
        anyhow::ensure!(a == "Live" && b == "Live", "cluster-a says {a}, cluster-b says {b}");
        let checked = s.ask(&client, &ledger, 100)?;
        anyhow::ensure!(checked.error.is_none(), "{:?}", checked.error);
        records.extend(load.read_new()?);
        let answered = records.iter().any(|r| r.start_ns > healed_ns && r.answer.cluster == "cluster-b");
        Ok(answered.then_some(()))
    })
    .unwrap();
    println!("withdrawn after {withdrawn:?}, back {:?} after healing", healed.elapsed());
    records.extend(load.stop().unwrap());

    let requests = records.iter().filter(|r| r.kind == Kind::Request).count();
    assert!(requests > 2000, "{requests} requests in a minute");
    let late: Vec<&Record> =
        records.iter().filter(|r| r.is_failure() && r.start_ns > cut_ns + NOTICED_WITHIN_NS).collect();
    assert!(
        late.is_empty(),
        "{} failures after the partition was noticed: {:?}",
        late.len(),
        &late[..late.len().min(5)]
    );
    assert_eq!(remote_addresses(&s), before, "entries were lost or added");
    let peer = peers(&s, "cluster-a");
    let count = |name: &str| find(&peer, name).and_then(Value::as_f64).unwrap();
    assert!(count("relists") < 0.5, "the session re-listed instead of resuming by revision");
    // Each connection asks which CAs to trust, and for nothing else.
    let asked = ranges_served(&s) - ranges;
    assert!(asked <= count("reconnects") + 0.5, "{asked} ranges in {} connections", count("reconnects"));
    s.end().unwrap();
}
