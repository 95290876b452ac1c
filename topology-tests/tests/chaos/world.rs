//! What the clients of a run share: the history that they write, the order of everything, and when they end.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mesh_store_sim::check::{Promise, Violation};
use mesh_store_sim::history::{History, Seen, Value};
use nix::sched::{CloneFlags, setns};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use topology_tests::etcd_access::Access;
use topology_tests::netns;
use topology_tests::scenario::Scenario;

use crate::{clients, leases, watchers};

pub(crate) const CLUSTER: &str = "cluster-a";
const CLIENTS: usize = 8;
const LEASE_HOLDERS: i64 = 2;
/// A watcher gets to the end within this.
const FOLLOWED_WITHIN: Duration = Duration::from_mins(1);

pub(crate) struct World {
    pub(crate) access: Access,
    pub(crate) history: Mutex<History>,
    /// When writes were acknowledged.
    pub(crate) acknowledged: Mutex<Vec<Instant>>,
    /// What clients were told instead of an answer, and how often.
    pub(crate) errors: Mutex<BTreeMap<String, u64>>,
    /// How often watches began again.
    pub(crate) watches: AtomicU64,
    /// Ends clients.
    pub(crate) stop: CancellationToken,
    /// Ends watchers, once they have seen everything up to it.
    pub(crate) goal: watch::Sender<Option<i64>>,
    violations: Mutex<Vec<Violation>>,
    seed: u64,
    started: Instant,
    stamps: AtomicU64,
    values: AtomicU64,
}

/// The threads in which clients and watchers run.
pub(crate) struct Running {
    asking: JoinHandle<()>,
    following: JoinHandle<()>,
}

impl World {
    pub(crate) fn new(s: &Scenario, seed: u64) -> Self {
        Self {
            access: Access::of(&s.lab, CLUSTER).unwrap(),
            history: Mutex::default(),
            acknowledged: Mutex::default(),
            errors: Mutex::default(),
            watches: AtomicU64::new(0),
            stop: CancellationToken::new(),
            goal: watch::Sender::new(None),
            violations: Mutex::default(),
            seed,
            started: Instant::now(),
            stamps: AtomicU64::new(1),
            values: AtomicU64::new(1),
        }
    }

    /// Clients sit behind the cluster's router, so that they reach replicas that do not reach each other.
    pub(crate) fn start_clients(self: &Arc<Self>, s: &Scenario) -> Running {
        let (asking, following) = (Arc::clone(self), Arc::clone(self));
        let asking = in_network(s, async move || {
            let tasks = TaskTracker::new();
            for client in 0..CLIENTS {
                tasks.spawn(clients::run(Arc::clone(&asking), client));
            }
            for holder in 0..LEASE_HOLDERS {
                tasks.spawn(leases::run(Arc::clone(&asking), holder));
            }
            tasks.close();
            tasks.wait().await;
        });
        let following = in_network(s, async move || {
            let tasks = TaskTracker::new();
            for watcher in 0..watchers::PREFIXES.len() {
                tasks.spawn(watchers::run(Arc::clone(&following), watcher));
            }
            tasks.close();
            let mut goal = following.goal.subscribe();
            drop(goal.wait_for(Option::is_some).await.unwrap());
            if tokio::time::timeout(FOLLOWED_WITHIN, tasks.wait()).await.is_err() {
                following.violation(Promise::Watches, format!("watchers do not get to the end in {FOLLOWED_WITHIN:?}"));
            }
        });
        Running { asking, following }
    }

    pub(crate) fn random(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A place in the order of everything.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that no other write has.
    pub(crate) fn value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn violation(&self, promise: Promise, what: impl Into<String>) {
        self.violations.lock().push(Violation::new(promise, what));
    }

    pub(crate) fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.violations.lock())
    }

    pub(crate) fn note_acknowledged(&self) {
        self.acknowledged.lock().push(Instant::now());
    }

    pub(crate) fn written(&self) -> usize {
        self.acknowledged.lock().len()
    }

    pub(crate) fn note_error(&self, error: &str) {
        *self.errors.lock().entry(error.to_owned()).or_default() += 1;
    }

    pub(crate) fn note_cluster(&self, cluster_id: u64) {
        let mut history = self.history.lock();
        if !history.cluster_ids.contains(&cluster_id) {
            history.cluster_ids.push(cluster_id);
        }
    }

    /// A replica to ask, drawn evenly: one that cannot answer costs the client a moment.
    pub(crate) fn pick(&self, random: &mut StdRng) -> u64 {
        let replicas: Vec<u64> = self.access.replicas().collect();
        replicas[random.random_range(0..replicas.len())]
    }

    /// All that was noted. A lease may have ended after the last revision that was read.
    pub(crate) fn take_history(&self, last: i64) -> History {
        let mut history = std::mem::take(&mut *self.history.lock());
        for watched in &mut history.watched {
            watched.seen.retain(|seen| !matches!(seen, Seen::Event { revision, .. } if *revision > last));
        }
        history
    }
}

impl Running {
    /// Ends clients: what they have begun is answered, or given up, when this returns.
    pub(crate) fn stop_asking(self, world: &World) -> JoinHandle<()> {
        world.stop.cancel();
        self.asking.join().unwrap();
        self.following
    }
}

/// Runs clients in the network of the cluster's router, on a thread of their own.
pub(crate) fn in_network<T: Send + 'static>(
    s: &Scenario,
    work: impl AsyncFnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let net = File::open(netns::path(&s.lab.name.netns(CLUSTER))).unwrap();
    std::thread::spawn(move || {
        setns(net, CloneFlags::CLONE_NEWNET).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
    })
}
