//! The replica that leads a cluster's store is killed again and again: writes go on, and whoever follows resumes.
//!
//! `ISTHMUS_FAILOVER_KILLS` sets how often.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::Value;
use topology_tests::deadline::{wait_for, wait_until};
use topology_tests::scenario::{Scenario, Setup};

use crate::store_clients::{Clients, Seen, in_network_of, numbers};

/// A write's pause, at most. Far above what is printed (0.7 s, twice that where two replicas stand for election at once): a
/// loaded machine must not fail what is right.
const RESUMED_WITHIN: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(20);

/// A write that was acknowledged late may have been repeated: its number comes twice then, but never out of order.
fn assert_followed_in_order(seen: &Seen, total: usize) {
    let mut last = 0;
    for number in seen.watched.lock().iter() {
        assert!(*number == last || *number == last + 1, "the watcher saw {number} after {last}");
        last = *number;
    }
    assert!(last >= total as u64, "the watcher saw {last} of {total}");
}

/// Lists that cluster-a's session has made of cluster-b.
fn relists(s: &Scenario) -> u64 {
    let text = s.meshctl(&["--context", "cluster-a", "peers", "-o", "json"]).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let peer = value.as_array().and_then(|peers| peers.first()).cloned().unwrap_or(value);
    peer["relists"].as_u64().unwrap_or_else(|| panic!("no relists in {text}"))
}

#[test]
fn a_killed_leader_costs_writers_a_moment_and_followers_nothing() {
    let kills: usize = std::env::var("ISTHMUS_FAILOVER_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let Some(s) = Setup::shop("failover").unwrap().start().unwrap() else { return };
    s.connect().unwrap();
    let mut clients = Clients::start(&s, "cluster-b");
    wait_until("the first writes", SOON, || clients.written() > 20).unwrap();
    let before = relists(&s);

    let mut pauses = Vec::new();
    for _ in 0..kills {
        let leader = s.mesh.controller(&s.lab, "cluster-b").unwrap();
        let count = clients.written();
        s.mesh.kill_apiserver("cluster-b", leader).unwrap();
        let killed = Instant::now();
        let resumed = wait_for("a write after the kill", SOON, || {
            let written = clients.seen.written.lock();
            // Not one that was on its way to the client already.
            Ok(written[count..].iter().map(|one| one.at).find(|at| *at > killed + Duration::from_millis(50)))
        })
        .unwrap();
        pauses.push(resumed - killed);
        s.mesh.start_apiserver(&s.lab, "cluster-b", leader).unwrap();
        s.mesh.wait_apiserver_ready(&s.lab, "cluster-b", leader).unwrap();
    }
    let total = clients.end(SOON);
    let seen = &clients.seen;

    let all = seen.written.lock().clone();
    let mut gaps: Vec<Duration> = all.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    gaps.sort_unstable();
    println!("one write after the other: {:?} each (median)", gaps[gaps.len() / 2]);
    pauses.sort_unstable();
    let median = pauses[pauses.len() / 2];
    println!(
        "{kills} leaders killed, {total} writes: resumed after {median:?} (median), {:?} (slowest); {} watches",
        pauses[pauses.len() - 1],
        seen.watches.lock()
    );
    assert_followed_in_order(seen, total);
    assert!(pauses[pauses.len() - 1] <= RESUMED_WITHIN, "{pauses:?}");
    wait_for("the session to cluster-b to be live", SOON, || {
        let text = s.meshctl(&["--context", "cluster-a", "peers", "-o", "json"])?;
        Ok(text.contains("\"Live\"").then_some(()))
    })
    .unwrap();
    assert_eq!(relists(&s), before, "the session listed again instead of resuming");
    s.end().unwrap();
}

#[test]
fn all_replicas_killed_at_once_lose_nothing_that_was_acknowledged() {
    let rounds: usize = std::env::var("ISTHMUS_CRASH_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let Some(s) = Setup::shop("crash").unwrap().start().unwrap() else { return };
    let mut clients = Clients::start(&s, "cluster-b");
    for _ in 0..rounds {
        let count = clients.written();
        wait_until("writes", SOON, || clients.written() > count + 20).unwrap();
        s.mesh.kill_apiservers(&s.lab, "cluster-b").unwrap();
        s.mesh.start_apiservers(&s.lab, "cluster-b").unwrap();
    }
    let count = clients.written();
    wait_until("a write after the last crash", SOON, || clients.written() > count).unwrap();
    let total = clients.end(SOON);
    let seen = &clients.seen;

    let all = seen.written.lock().clone();
    let first = all[0];
    for pair in all.windows(2) {
        assert!(pair[0].revision < pair[1].revision, "a revision was given twice: {pair:?}");
        assert_eq!(pair[1].cluster_id, first.cluster_id, "the store became another one");
    }
    let stored = {
        let (found, never) = (Arc::new(parking_lot::Mutex::new(Vec::new())), AtomicBool::new(false));
        let (into, access) = (Arc::clone(&found), Arc::clone(&clients.access));
        in_network_of(&s, "b1", async move || *into.lock() = numbers(&access, &never).await).join().unwrap();
        found.lock().clone()
    };
    let wanted: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(stored[..wanted.len()], wanted, "an acknowledged write is gone");
    assert!(stored.len() <= wanted.len() + 1, "only the last write may be one that was not acknowledged");
    assert_followed_in_order(seen, total);
    println!("{rounds} crashes of all three replicas, {} writes, none lost", all.len());
    s.end().unwrap();
}
