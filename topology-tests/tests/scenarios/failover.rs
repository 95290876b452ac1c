//! The replica that leads a cluster's store is killed again and again: writes go on, and whoever follows resumes.
//!
//! `ISTHMUS_FAILOVER_KILLS` sets how often.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, EventType, Identity, PutOptions, TlsOptions, WatchOptions};
use parking_lot::Mutex;
use serde_json::Value;
use topology_tests::components::ETCD_PORT;
use topology_tests::deadline::{wait_for, wait_until};
use topology_tests::scenario::{Scenario, Setup};

/// A write's pause, at most (acceptance of the store's fail-over).
const RESUMED_WITHIN: Duration = Duration::from_millis(1500);
/// A request to a replica that died is given up after this.
const PATIENCE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(20);
const PREFIX: &str = "failover/";

/// What the writer and the watcher have seen.
#[derive(Default)]
struct Seen {
    /// When each numbered write was acknowledged.
    acknowledged: Mutex<Vec<Instant>>,
    /// The numbers that the watcher was shown, in its order.
    watched: Mutex<Vec<u64>>,
    rewatches: Mutex<u64>,
}

/// The endpoints of a cluster and what it takes to be its administrator.
struct Access {
    endpoints: Vec<String>,
    tls: TlsOptions,
}

impl Access {
    fn of(s: &Scenario, cluster: &str) -> Self {
        let plan = s.lab.cluster_plan(cluster).unwrap();
        let endpoints = plan.replicas.iter().map(|replica| format!("https://{}:{ETCD_PORT}", replica.ip)).collect();
        let state = s.lab.cluster_dir(cluster).join("apiserver-1");
        let read = |file: &str| std::fs::read(Path::new(&state).join(file)).unwrap();
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")))
            .identity(Identity::from_pem(read("admin.crt"), read("admin.key")))
            .domain_name("localhost");
        Self { endpoints, tls }
    }

    /// To one replica after the other: which one answers is what the test is about.
    async fn client(&self, turn: usize) -> Option<Client> {
        let endpoint = &self.endpoints[turn % self.endpoints.len()];
        let options = ConnectOptions::new()
            .with_tls(self.tls.clone())
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(Duration::from_millis(500), Duration::from_millis(500))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        Client::connect([endpoint], Some(options)).await.ok()
    }
}

/// Writes 1, 2, 3, … to one key each, every number until it is acknowledged.
async fn write(access: &Access, seen: &Seen, stop: &AtomicBool) {
    let (mut turn, mut number) = (0, 1_u64);
    let mut client = access.client(turn).await;
    while !stop.load(Ordering::Relaxed) {
        let put = async {
            let client = client.as_mut()?;
            let key = format!("{PREFIX}{number:08}");
            client.put(key, number.to_string(), Some(PutOptions::new())).await.ok()
        };
        if let Ok(Some(_)) = tokio::time::timeout(PATIENCE * 4, put).await {
            seen.acknowledged.lock().push(Instant::now());
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        } else {
            turn += 1;
            client = access.client(turn).await;
        }
    }
}

/// Follows all numbers; after a break it resumes behind the last revision that it was shown.
async fn follow(access: &Access, seen: &Seen, from: i64, stop: &AtomicBool) {
    let (mut turn, mut next) = (0, from);
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let Some(mut client) = access.client(turn).await else { continue };
        let options = WatchOptions::new().with_prefix().with_start_revision(next);
        let Ok(mut stream) = client.watch(PREFIX, Some(options)).await else { continue };
        *seen.rewatches.lock() += 1;
        while !stop.load(Ordering::Relaxed) {
            match tokio::time::timeout(Duration::from_millis(200), stream.message()).await {
                Err(_elapsed) => {}
                Ok(Ok(Some(response))) if !response.canceled() => {
                    for event in response.events() {
                        let kv = event.kv().unwrap();
                        assert_eq!(event.event_type(), EventType::Put);
                        seen.watched.lock().push(kv.value_str().unwrap().parse().unwrap());
                        next = kv.mod_revision() + 1;
                    }
                }
                Ok(_) => break,
            }
        }
    }
}

/// Runs a client inside a node's network, on a thread of its own.
fn in_network_of(s: &Scenario, node: &str, work: impl AsyncFnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    let net = std::fs::File::open(&s.lab.node(node).unwrap().place.net).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(net, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    })
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
    let (access, seen, stop) =
        (Arc::new(Access::of(&s, "cluster-b")), Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (access, seen, stop) = (Arc::clone(&access), Arc::clone(&seen), Arc::clone(&stop));
        in_network_of(&s, "b1", async move || write(&access, &seen, &stop).await)
    };
    let watcher = {
        let (access, seen, stop) = (Arc::clone(&access), Arc::clone(&seen), Arc::clone(&stop));
        in_network_of(&s, "b2", async move || follow(&access, &seen, 1, &stop).await)
    };
    let acknowledged = || seen.acknowledged.lock().len();
    wait_until("the first writes", SOON, || acknowledged() > 20).unwrap();
    let before = relists(&s);

    let mut pauses = Vec::new();
    for _ in 0..kills {
        let leader = s.mesh.controller(&s.lab, "cluster-b").unwrap();
        let count = acknowledged();
        s.mesh.kill_apiserver("cluster-b", leader).unwrap();
        let killed = Instant::now();
        let resumed = wait_for("a write after the kill", SOON, || {
            let acknowledged = seen.acknowledged.lock();
            // Not one that was on its way to the client already.
            Ok(acknowledged[count..].iter().copied().find(|at| *at > killed + Duration::from_millis(50)))
        })
        .unwrap();
        pauses.push(resumed - killed);
        s.mesh.start_apiserver(&s.lab, "cluster-b", leader).unwrap();
        s.mesh.wait_apiserver_ready(&s.lab, "cluster-b", leader).unwrap();
    }
    let written = acknowledged();
    wait_until("the watcher to have seen every write", SOON, || seen.watched.lock().len() >= written).unwrap();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    watcher.join().unwrap();

    let times = seen.acknowledged.lock();
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    drop(times);
    gaps.sort_unstable();
    println!("one write after the other: {:?} each (median)", gaps[gaps.len() / 2]);
    pauses.sort_unstable();
    let median = pauses[pauses.len() / 2];
    println!(
        "{kills} leaders killed, {written} writes: resumed after {median:?} (median), {:?} (slowest); {} watches",
        pauses[pauses.len() - 1],
        seen.rewatches.lock()
    );
    // A write that was acknowledged late may have been repeated: the key is the same, so only the number counts.
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last = 0;
    for number in seen.watched.lock().iter() {
        assert!(*number == last || *number == last + 1, "the watcher saw {number} after {last}");
        last = *number;
        *times.entry(*number).or_default() += 1;
    }
    assert!(last >= written as u64);
    assert!(pauses[pauses.len() - 1] <= RESUMED_WITHIN, "{pauses:?}");
    wait_for("the session to cluster-b to be live", SOON, || {
        let text = s.meshctl(&["--context", "cluster-a", "peers", "-o", "json"])?;
        Ok(text.contains("\"Live\"").then_some(()))
    })
    .unwrap();
    assert_eq!(relists(&s), before, "the session listed again instead of resuming");
    s.end().unwrap();
}
