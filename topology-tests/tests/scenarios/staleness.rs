//! What is served when a cluster's control plane, its datapath, all of it, or the own side is lost, and after how long:
//! measured in the lab, with two other clusters, and printed as a table.

use std::time::{Duration, Instant};

use serde_json::Value;
use topology_tests::components::Periods;
use topology_tests::deadline::wait_for;
use topology_tests::scenario::{Scenario, Setup};
use topology_tests::wan::Fault;

const SOON: Duration = Duration::from_secs(20);
/// A dead cluster's backends are out.
const DEAD_WITHIN: Duration = Duration::from_secs(3);
/// `--withdraw-after` of this mesh, and the longer one of `catalog`.
const GRACE: Duration = Duration::from_secs(20);
const LONGER: Duration = Duration::from_secs(30);
/// A heartbeat comes every 5 s; silence counts from the newest one.
const BEAT: Duration = Duration::from_secs(5);
/// What the judgement, the store, the view and `meshctl` may add.
const SEEN_WITHIN: Duration = Duration::from_millis(2_500);
/// Paths that are down while control is well (`federation::liveness::PATHS_ALONE`), and their detection.
const PATHS_ALONE: Duration = Duration::from_secs(10);

/// A cluster that is looked at no more would be taken to be well after a second.
const STILL_OUT: Duration = Duration::from_secs(6);

/// A Service as cluster-a uses it.
struct Used {
    /// Of cluster-b: live, stale or withdrawn; and why.
    state: String,
    reason: String,
    /// How many of its backends are there to be used.
    backends: usize,
}

fn used(s: &Scenario, name: &str) -> anyhow::Result<Used> {
    let text = s.meshctl(&["--context", "cluster-a", "get", "services", "-o", "json"])?;
    let rows: Value = serde_json::from_str(&text)?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    let of_name = |row: &&Value| row["name"] == name && row["remote"].is_array();
    let row = rows.iter().find(of_name).ok_or_else(|| anyhow::anyhow!("no {name} with a standing in {text}"))?;
    let all = |field: &str| row[field].as_array().cloned().unwrap_or_default();
    let of_b = |list: Vec<Value>| list.into_iter().filter(|one| one["cluster"] == "cluster-b").collect::<Vec<_>>();
    let standing = of_b(all("remote")).pop().ok_or_else(|| anyhow::anyhow!("cluster-b has no standing in {row}"))?;
    let word = |field: &str| standing[field].as_str().unwrap_or_default().to_owned();
    Ok(Used { state: word("state"), reason: word("reason"), backends: of_b(all("backends")).len() })
}

/// Waits until cluster-b is in this state for a Service, with its backends there or not, and says when since `from`.
fn wait_state(s: &Scenario, name: &str, state: &str, from: Instant, within: Duration) -> (Duration, String) {
    wait_for(&format!("{name} of cluster-b to be {state}"), within, || {
        let now = used(s, name)?;
        let is_there = now.backends > 0;
        anyhow::ensure!(now.state == state, "it is {}: {}", now.state, now.reason);
        anyhow::ensure!(is_there == (state != "withdrawn"), "{state}, with {} backends", now.backends);
        Ok(Some((from.elapsed(), now.reason)))
    })
    .unwrap()
}

/// Time passes, in which something must go on to hold.
fn holds_for(time: Duration, mut holds: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < time {
        holds();
    }
}

fn wait_live(s: &Scenario, from: Instant) -> Duration {
    wait_state(s, "catalog", "live", from, SOON).0.max(wait_state(s, "ledger", "live", from, SOON).0)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[test]
fn a_lost_cluster_is_out_in_three_seconds_and_one_that_only_does_not_answer_keeps_serving() {
    let mut setup = Setup::shop_of_three("staleness").unwrap();
    setup.periods = Periods { stale_after: Some("15s".into()), withdraw_after: Some("20s".into()) };
    let Some(s) = setup.start().unwrap() else { return };
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let ledger = s.service("http", "cluster-b", "books", "ledger", 80).unwrap();
    let catalog = s.service("http", "cluster-a", "shop", "catalog", 80).unwrap();
    let control = s.lab.control("cluster-a").unwrap();
    control.annotate_service("shop", "catalog", "mesh.isthmus.io/withdraw-after", Some("30s")).unwrap();
    s.ask_until_answered(&client, &ledger, SOON).unwrap();
    wait_live(&s, Instant::now());
    let answers = |question: &str| s.ask(&client, question, 100).unwrap().error;
    let mut table: Vec<[String; 4]> = Vec::new();
    let mut row = |fault: &str, service: &str, served: &str, after: String| {
        table.push([fault.to_owned(), service.to_owned(), served.to_owned(), after]);
    };

    // Packets do not reach cluster-b; its control plane answers.
    s.lab.wan.set_fault("cluster-b", Fault::Tunnels).unwrap();
    let cut = Instant::now();
    let (took, why) = wait_state(&s, "ledger", "withdrawn", cut, SOON);
    assert!(why.contains("no path to any of its nodes, as a1, a2 see it; its control plane answers"), "{why}");
    assert!((PATHS_ALONE..=PATHS_ALONE + SEEN_WITHIN).contains(&took), "{took:?}");
    assert_eq!(answers(&catalog), None, "the own backends serve on");
    row("datapath of cluster-b", "ledger", "withdrawn for everybody", seconds(took));
    holds_for(STILL_OUT, || {
        let now = used(&s, "ledger").unwrap();
        assert_eq!(now.state, "withdrawn", "nothing of it is in use, and nothing is better: {}", now.reason);
    });
    s.lab.wan.restore("cluster-b").unwrap();
    row("  it is back", "both", "used again", seconds(wait_live(&s, Instant::now())));

    // Its control plane is gone; packets reach it.
    s.mesh.kill_apiservers(&s.lab, "cluster-b").unwrap();
    let killed = Instant::now();
    holds_for(GRACE.saturating_sub(BEAT + Duration::from_secs(1)), || {
        assert_eq!(answers(&ledger), None, "{:?} after the control plane was lost", killed.elapsed());
        assert!(used(&s, "ledger").unwrap().backends > 0, "{:?}", killed.elapsed());
    });
    let (took, why) = wait_state(&s, "ledger", "withdrawn", killed, SOON);
    assert!(why.contains("no heartbeat for 20 s"), "{why}");
    assert!((GRACE.saturating_sub(BEAT)..=GRACE + SEEN_WITHIN).contains(&took), "{took:?}");
    row("control of cluster-b", "ledger", "answers, then withdrawn", seconds(took));
    assert_eq!(used(&s, "catalog").unwrap().state, "stale", "its own period is longer");
    let (took, why) = wait_state(&s, "catalog", "withdrawn", killed, SOON);
    assert!(why.contains("no heartbeat for 30 s, its own withdraw-after"), "{why}");
    assert!((LONGER.saturating_sub(BEAT)..=LONGER + SEEN_WITHIN).contains(&took), "{took:?}");
    row("control of cluster-b", "catalog, withdraw-after 30s", "used, then withdrawn", seconds(took));
    s.mesh.start_apiservers(&s.lab, "cluster-b").unwrap();
    let started = Instant::now();
    row("  it is back", "both", "used again", seconds(wait_live(&s, started)));
    s.mesh.wait_apiservers_ready(&s.lab, "cluster-b").unwrap();

    // The own uplink is gone: to cluster-a that looks as if all others were.
    s.lab.wan.cut("cluster-a").unwrap();
    let cut = Instant::now();
    wait_for("cluster-a to say that it is its own fault", SOON, || {
        Ok(s.status("cluster-a")?.contains("the fault seems to be on the own side").then_some(()))
    })
    .unwrap();
    row("own uplink of cluster-a", "all", "status says so", seconds(cut.elapsed()));
    holds_for((LONGER + BEAT).saturating_sub(cut.elapsed()), || {
        assert_eq!(answers(&catalog), None, "the own backends serve on, {:?}", cut.elapsed());
        for name in ["ledger", "catalog"] {
            let now = used(&s, name).unwrap();
            assert!(now.state != "withdrawn" && now.backends > 0, "{name} is {}: {}", now.state, now.reason);
        }
    });
    row(
        "own uplink of cluster-a",
        "both",
        "nothing withdrawn; own backends answer",
        format!("{} s", cut.elapsed().as_secs()),
    );
    s.lab.wan.restore("cluster-a").unwrap();
    row("  it is back", "both", "live", seconds(wait_live(&s, Instant::now())));
    s.ask_until_answered(&client, &ledger, SOON).unwrap();

    // For a few seconds the others are still given time to come back.
    wait_for("cluster-a to judge the others again", SOON, || {
        Ok((!s.status("cluster-a")?.contains("on the own side")).then_some(()))
    })
    .unwrap();

    // All of cluster-b at once.
    s.lab.wan.cut("cluster-b").unwrap();
    let died = Instant::now();
    s.mesh.kill_cluster(&s.lab, "cluster-b").unwrap();
    let (took, why) = wait_state(&s, "ledger", "withdrawn", died, SOON);
    row("all of cluster-b", "ledger", "withdrawn", seconds(took));
    let (both, _) = wait_state(&s, "catalog", "withdrawn", died, SOON);
    row("all of cluster-b", "catalog, withdraw-after 30s", "withdrawn", seconds(both));
    assert_eq!(answers(&catalog), None, "the other clusters serve on");

    println!("\n{}", s.meshctl(&["--context", "cluster-a", "get", "services"]).unwrap());
    println!("{}\n", s.meshctl(&["--context", "cluster-a", "peers"]).unwrap());
    println!("{:26} {:28} {:40} after", "fault", "service", "what is served");
    for [fault, service, served, after] in &table {
        println!("{fault:26} {service:28} {served:40} {after}");
    }
    assert!(why.contains("no path to any of its nodes, as a1, a2 see it; no control"), "{why}");
    assert!(took <= DEAD_WITHIN, "{took:?}");
    s.end().unwrap();
}
