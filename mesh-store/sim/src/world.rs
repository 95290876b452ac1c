//! One run: replicas, disks, network, clients and faults, all drawn from one seed.
//!
//! ```text
//!  faults --> machines (Embedded on SimDisk) <-- Net --> ...
//!                 ^ Store
//!  clients, watchers, lease holders --> History --> check::all
//! ```
//! It must run on one thread with a clock that stands still while there is something to do; then a seed is a history.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use mesh_store::{Embedded, Store as _};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::check::{self, Promise, Violation};
use crate::history::History;
use crate::trace::Trace;

mod clients;
pub(crate) mod disk;
mod ending;
mod faults;
mod leases;
mod machine;
pub(crate) mod net;
mod watchers;

use machine::Machine;
use net::Net;

/// What a run needs from whoever starts it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    /// How long faults go on, by the simulated clock.
    pub lasts: Duration,
    /// Moves the simulated clock on at once, as if the whole machine had stood still: tokio's `advance`.
    pub jump: fn(Duration) -> BoxFuture<'static, ()>,
}

/// By what happened, in words without spaces.
pub type Counts = BTreeMap<&'static str, u64>;

#[derive(Clone, Debug)]
pub struct Outcome {
    pub violations: Vec<Violation>,
    pub trace: Arc<Trace>,
    pub operations: usize,
    pub unknown: usize,
    pub revisions: usize,
    pub events: usize,
    /// How often each kind of fault and change has happened.
    pub counts: Counts,
    pub simulated: Duration,
}

/// A replica that runs: its number, itself, and what says that it does not run any more.
type Picked = (u64, Arc<Embedded>, CancellationToken);

pub(crate) struct World {
    settings: Settings,
    net: Arc<Net>,
    trace: Arc<Trace>,
    started: Instant,
    machines: Mutex<BTreeMap<u64, Machine>>,
    history: Mutex<History>,
    violations: Mutex<Vec<Violation>>,
    stamps: AtomicU64,
    values: AtomicU64,
    greeters: AtomicUsize,
    counts: Mutex<Counts>,
    clients: TaskTracker,
    /// Ends clients.
    stop: CancellationToken,
    /// Ends watchers, once they have seen everything.
    goal: tokio::sync::watch::Sender<Option<i64>>,
    /// Bytes of log until a snapshot is taken.
    snapshot_bytes: u64,
    /// The longest that a client pauses.
    pace: Duration,
}

impl World {
    fn random(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.settings.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A place in the order of everything.
    fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    /// A value that no other write has.
    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    fn violation(&self, promise: Promise, what: impl Into<String>) {
        self.violations.lock().push(Violation::new(promise, what));
    }

    fn next_greeter(&self) -> usize {
        self.greeters.fetch_add(1, Ordering::Relaxed)
    }

    fn pick(&self, random: &mut StdRng) -> Option<Picked> {
        let machines = self.machines.lock();
        let running: Vec<_> = machines
            .iter()
            .filter_map(|(id, machine)| Some((*id, machine.running.as_ref()?)))
            .filter(|(_, running)| !running.dead.is_cancelled())
            .collect();
        if running.is_empty() {
            return None;
        }
        let (id, running) = running[random.random_range(0..running.len())];
        Some((id, Arc::clone(&running.store), running.dead.clone()))
    }

    fn note_cluster(&self, store: &Embedded) {
        let cluster_id = store.cluster_id();
        let mut history = self.history.lock();
        if cluster_id != 0 && !history.cluster_ids.contains(&cluster_id) {
            history.cluster_ids.push(cluster_id);
        }
    }
}

/// Runs one world to its end and judges it.
pub async fn run(settings: Settings, trace: Option<File>) -> Outcome {
    let trace = Arc::new(Trace::new(trace));
    let mut random = StdRng::seed_from_u64(settings.seed);
    let net = Net::new(random.random(), Arc::clone(&trace));
    let world = Arc::new(World {
        settings,
        net,
        trace: Arc::clone(&trace),
        started: Instant::now(),
        machines: Mutex::default(),
        history: Mutex::default(),
        violations: Mutex::default(),
        stamps: AtomicU64::new(1),
        values: AtomicU64::new(1),
        greeters: AtomicUsize::new(0),
        counts: Mutex::default(),
        clients: TaskTracker::new(),
        stop: CancellationToken::new(),
        goal: tokio::sync::watch::Sender::new(None),
        // So small that a leader of a few hundred changes has taken one.
        snapshot_bytes: 1 << random.random_range(10..16),
        pace: Duration::from_millis(random.random_range(40..250)),
    });
    let size = if random.random_bool(0.7) { 3 } else { 5 };
    let mut is_readable = false;
    if let Err(reason) = world.found(size).await {
        world.violation(Promise::Recovers, format!("the group of {size} cannot be founded: {reason}"));
    } else {
        let clients = world.clients.clone();
        let watchers = TaskTracker::new();
        for client in 0..4 {
            clients.spawn(clients::run(Arc::clone(&world), client));
        }
        for holder in 0..2 {
            clients.spawn(leases::run(Arc::clone(&world), holder));
        }
        for watcher in 0..4 {
            watchers.spawn(watchers::run(Arc::clone(&world), watcher));
        }
        faults::run(&world).await;
        world.heal().await;
        clients.close();
        watchers.close();
        // With everything well again, clients go on for a moment.
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.stop.cancel();
        clients.wait().await;
        is_readable = ending::settle(&world, &watchers).await;
    }
    let history = std::mem::take(&mut *world.history.lock());
    let mut violations = std::mem::take(&mut *world.violations.lock());
    violations.extend(if is_readable { check::all(&history) } else { check::of_clients(&history) });
    Outcome {
        violations,
        operations: history.ops.len() + history.local_reads.len(),
        unknown: history.ops.iter().filter(|op| op.answer.is_none()).count(),
        revisions: history.committed.len(),
        events: history.watched.iter().map(|watched| watched.seen.len()).sum(),
        counts: std::mem::take(&mut *world.counts.lock()),
        simulated: world.now(),
        trace,
    }
}
