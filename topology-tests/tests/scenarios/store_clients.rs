//! Clients of a cluster's store for scenarios: one writes numbers, one follows them, both go on at another replica when
//! theirs dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{EventType, GetOptions, WatchOptions};
use parking_lot::Mutex;
use topology_tests::deadline::wait_until;
use topology_tests::etcd_access::Access;
use topology_tests::scenario::Scenario;

/// A request to a replica that died is given up after this.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(5);
const PREFIX: &str = "numbers/";

/// An acknowledged write; the first one has number 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) at: Instant,
    pub(crate) revision: i64,
    pub(crate) cluster_id: u64,
}

/// What the writer and the watcher have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) written: Mutex<Vec<Written>>,
    /// The numbers that the watcher was shown, in its order.
    pub(crate) watched: Mutex<Vec<u64>>,
    pub(crate) watches: Mutex<u64>,
}

/// Writes 1, 2, 3, … to one key each, every number until it is acknowledged.
async fn write(access: &Access, seen: &Seen, stop: &AtomicBool) {
    let (mut turn, mut number) = (0, 1_u64);
    let mut client = access.client(turn).await;
    while !stop.load(Ordering::Relaxed) {
        let put = async {
            let client = client.as_mut()?;
            let key = format!("{PREFIX}{number:08}");
            client.put(key, number.to_string(), None).await.ok()
        };
        if let Ok(Some(answer)) = tokio::time::timeout(PATIENCE * 4, put).await {
            let header = answer.header().unwrap();
            let (revision, cluster_id) = (header.revision(), header.cluster_id());
            seen.written.lock().push(Written { at: Instant::now(), revision, cluster_id });
            number += 1;
            tokio::time::sleep(PAUSE).await;
        } else {
            turn += 1;
            // One that refuses does so at once.
            tokio::time::sleep(PAUSE).await;
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
        *seen.watches.lock() += 1;
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
pub(crate) fn in_network_of(
    s: &Scenario,
    node: &str,
    work: impl AsyncFnOnce() + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let net = std::fs::File::open(&s.lab.node(node).unwrap().place.net).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(net, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    })
}

/// A writer and a follower of a cluster's store, each in the network of one of its nodes.
pub(crate) struct Clients {
    pub(crate) access: Arc<Access>,
    pub(crate) seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(s: &Scenario, cluster: &str) -> Self {
        let (access, seen, stop) = (
            Arc::new(Access::of(&s.lab, cluster).unwrap()),
            Arc::new(Seen::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let shared = || (Arc::clone(&access), Arc::clone(&seen), Arc::clone(&stop));
        let nodes = &s.lab.cluster_plan(cluster).unwrap().nodes;
        let (one, other) = (shared(), shared());
        let threads = vec![
            in_network_of(s, &nodes[0].name, async move || write(&one.0, &one.1, &one.2).await),
            in_network_of(s, &nodes[1].name, async move || follow(&other.0, &other.1, 1, &other.2).await),
        ];
        Self { access, seen, stop, threads }
    }

    /// How many writes were acknowledged.
    pub(crate) fn written(&self) -> usize {
        self.seen.written.lock().len()
    }

    /// Ends both when the follower has seen all that was acknowledged until now; their number.
    pub(crate) fn end(&mut self, within: Duration) -> usize {
        let total = self.written();
        wait_until("the watcher to have seen every write", within, || self.seen.watched.lock().len() >= total).unwrap();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        total
    }
}

/// Every number that the store holds, in order, as one replica after the other is asked for them.
pub(crate) async fn numbers(access: &Access, stop: &AtomicBool) -> Vec<u64> {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let Some(mut client) = access.client(turn).await else { continue };
        if let Ok(found) = client.get(PREFIX, Some(GetOptions::new().with_prefix())).await {
            return found.kvs().iter().map(|kv| kv.value_str().unwrap().parse().unwrap()).collect();
        }
    }
    Vec::new()
}
