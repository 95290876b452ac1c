//! Replicas on simulated disks and a simulated network, under a simulated clock: crashes that lose what was not synced,
//! partitions, lost, late and repeated messages. What the clients saw must have been one store, and no lease ended early.
//!
//! `ISTHMUS_SIM_SEEDS=first..end` runs those seeds; a failure names its seed.

#![expect(clippy::disallowed_methods, reason = "a test ends its tasks with its runtime")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mesh_store::backend::{Error, Member, WatchRequest, WatchUpdate};
use mesh_store::mvcc::{EventKind, PutRequest, RangeRequest};
use mesh_store::{Embedded, Metrics, Options, Start, Store};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/net.rs"]
mod net;

use check::{History, Operation, Outcome};
use disk::SimDisk;
use net::{Net, Wire};

/// Seeds that every run of the tests goes through.
const SEEDS: std::ops::Range<u64> = 0..12;
/// Faults are injected for so long, by the simulated clock.
const TROUBLE: Duration = Duration::from_secs(40);
/// Everything must work again so soon after.
const RECOVERY: Duration = Duration::from_mins(1);
const CLIENTS: u64 = 4;
const KEYS: u64 = 5;

struct World {
    size: u64,
    net: Arc<Net>,
    disks: BTreeMap<u64, SimDisk>,
    running: Mutex<BTreeMap<u64, Running>>,
    /// Counts calls and answers.
    moments: AtomicU64,
    operations: Mutex<Vec<Operation>>,
    /// Until when each leased key was promised to live.
    promised: Mutex<BTreeMap<String, Instant>>,
    /// When a watch first saw each deleted.
    deleted: Mutex<BTreeMap<String, Instant>>,
}

#[derive(Clone)]
struct Running {
    store: Arc<Embedded>,
    alive: Arc<AtomicBool>,
    crashed: CancellationToken,
}

fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("replica-{id}"),
        peer_urls: vec![format!("https://replica-{id}:2380")],
        ..Member::default()
    }
}

impl World {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn running(&self, id: u64) -> Option<Running> {
        self.running.lock().get(&id).cloned()
    }

    async fn start(&self, id: u64, seed: u64) {
        let members = (1..=self.size).map(member).collect();
        let options = Options {
            member: member(id),
            start: Start::Together { members },
            disk: self.disks[&id].mount(),
            seed: Some(seed),
            segment_bytes: 8 * 1024,
            snapshot_log_bytes: 24 * 1024,
            ..Options::new("/replica")
        };
        let alive = Arc::new(AtomicBool::new(true));
        let wire = Wire { net: Arc::clone(&self.net), from: id, alive: Arc::clone(&alive) };
        let store = Embedded::start(options, Arc::new(wire), Metrics::detached()).await.unwrap();
        self.net.connect(id, store.receiver());
        self.running.lock().insert(id, Running { store, alive, crashed: CancellationToken::new() });
    }

    fn crash(&self, id: u64, random: &mut StdRng) {
        let Some(running) = self.running.lock().remove(&id) else { return };
        running.alive.store(false, Ordering::Release);
        self.net.disconnect(id);
        self.disks[&id].crash(random);
        running.crashed.cancel();
    }

    async fn start_all(&self, random: &mut StdRng) {
        for id in 1..=self.size {
            if self.running(id).is_none() {
                self.start(id, random.random()).await;
            }
        }
    }

    /// Faults, one after the other, until the time is over.
    async fn trouble(&self, random: &mut StdRng) {
        let end = Instant::now() + TROUBLE;
        while Instant::now() < end {
            let one = random.random_range(1..=self.size);
            match random.random_range(0..10) {
                0 | 1 => self.crash(one, random),
                2 => (1..=self.size).for_each(|id| self.crash(id, random)),
                3 | 4 => {
                    for other in (1..=self.size).filter(|other| *other != one) {
                        self.net.cut(one, other);
                        self.net.cut(other, one);
                    }
                }
                5 => self.net.cut(one, random.random_range(1..=self.size)),
                6 => self.net.set_unreliable(random.random_range(1..150)),
                7 => {
                    if let Some(running) = self.running(one) {
                        let to = random.random_range(1..=self.size);
                        // May well fail in such times.
                        drop(tokio::time::timeout(Duration::from_secs(2), running.store.move_leader(to)).await);
                    }
                }
                8 => self.net.heal(),
                _ => self.start_all(random).await,
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(50..3000))).await;
            if random.random_range(0..3) == 0 {
                self.start_all(random).await;
            }
        }
    }

    /// One client: calls whatever replica runs, one call at a time.
    async fn client(&self, client: u64, mut random: StdRng, stop: CancellationToken) {
        for n in 0_u64.. {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..60))).await;
            if stop.is_cancelled() {
                return;
            }
            let replica = random.random_range(1..=self.size);
            let Some(running) = self.running(replica) else { continue };
            let key = format!("k/{}", random.random_range(0..KEYS));
            let value = random.random_bool(0.6).then(|| format!("{client}.{n}"));
            let called = self.moment();
            let call = async {
                match &value {
                    Some(value) => match running.store.put(PutRequest::new(key.clone(), value.clone())).await {
                        Ok(response) => Outcome::Written(response.revision),
                        Err(error) if error.is_unknown_outcome() => Outcome::Unknown,
                        Err(_) => Outcome::NotDone,
                    },
                    None => match running.store.range(RangeRequest::get(key.clone())).await {
                        Ok(response) => Outcome::Read(
                            response.revision,
                            response.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()),
                        ),
                        Err(_) => Outcome::Unknown,
                    },
                }
            };
            let outcome = tokio::select! {
                // An answer that came with the crash was not received.
                biased;
                () = running.crashed.cancelled() => Outcome::Unknown,
                outcome = call => outcome,
            };
            let answered = self.moment();
            self.operations.lock().push(Operation { called, answered, key, value, outcome });
        }
    }

    /// Holds one lease after the other, keeps each for a while at whatever replica runs, and lets it end.
    async fn lessee(&self, mut random: StdRng, stop: CancellationToken) {
        for n in 0_u64.. {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..500))).await;
            if stop.is_cancelled() {
                return;
            }
            let ttl = random.random_range(2..6);
            let called = Instant::now();
            let granted = self.anywhere(&mut random, async |store| store.lease_grant(0, ttl).await.ok()).await;
            let Some(lease) = granted.flatten().map(|granted| granted.id) else { continue };
            let mut promised = called + Duration::from_secs(ttl.unsigned_abs());
            let key = format!("l/{n}");
            let request = PutRequest { lease, ..PutRequest::new(key.clone(), key.clone()) };
            let (key_of, request) = (key.clone(), &request);
            let called = self.moment();
            let put = self.anywhere(&mut random, async |store| store.put(request.clone()).await.ok()).await.flatten();
            let outcome = put.map_or(Outcome::Unknown, |put| Outcome::Written(put.revision));
            let answered = self.moment();
            self.operations.lock().push(Operation { called, answered, key, value: Some(key_of.clone()), outcome });
            for _ in 0..random.random_range(0..10) {
                tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
                let called = Instant::now();
                let kept = self.anywhere(&mut random, async |store| store.lease_keep_alive(lease).await).await;
                match kept {
                    Some(Ok(ttl)) => promised = called + Duration::from_secs(ttl.unsigned_abs()),
                    Some(Err(Error::Refused(refusal))) => {
                        assert!(Instant::now() >= promised, "{key_of} ended early: {refusal}");
                        break;
                    }
                    Some(Err(_)) | None => {}
                }
            }
            self.promised.lock().insert(key_of, promised);
        }
    }

    /// Calls a replica that runs; `None` if it crashed meanwhile, or none was hit upon.
    async fn anywhere<T>(&self, random: &mut StdRng, call: impl AsyncFnOnce(&Embedded) -> T) -> Option<T> {
        let running = self.running(random.random_range(1..=self.size))?;
        tokio::select! {
            biased;
            () = running.crashed.cancelled() => None,
            answer = call(&running.store) => Some(answer),
        }
    }

    /// A watch that goes on at another replica whenever its own is gone, and remembers everything it saw.
    async fn watcher(&self, mut replica: u64, until: watch::Receiver<i64>) -> History {
        let mut seen: History = Vec::new();
        loop {
            let next = seen.last().map_or(2, |(revision, ..)| revision + 1);
            if *until.borrow() > 0 && next > *until.borrow() {
                return seen;
            }
            replica = replica % self.size + 1;
            let Some(running) = self.running(replica) else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Ok(mut watcher) = running.store.watch(WatchRequest::prefix("", next)).await else { continue };
            loop {
                let mut ended = until.clone();
                let last = seen.last().map_or(1, |(revision, ..)| *revision);
                let update = tokio::select! {
                    () = running.crashed.cancelled() => break,
                    _ = ended.wait_for(|until| *until > 0 && last >= *until) => return seen,
                    update = watcher.next() => update,
                };
                let Some(WatchUpdate::Events(batch)) = update else { continue };
                for event in batch.events {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let key = text(&event.kv.key);
                    if event.kind == EventKind::Delete {
                        self.deleted.lock().entry(key.clone()).or_insert_with(Instant::now);
                    }
                    seen.push((event.kv.mod_revision, key, text(&event.kv.value)));
                }
            }
        }
    }
}

async fn simulate(seed: u64) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let size = if random.random_bool(0.3) { 5 } else { 3 };
    let world = Arc::new(World {
        size,
        net: Net::new(random.random()),
        disks: (1..=size).map(|id| (id, SimDisk::default())).collect(),
        running: Mutex::default(),
        moments: AtomicU64::new(0),
        operations: Mutex::default(),
        promised: Mutex::default(),
        deleted: Mutex::default(),
    });
    world.start_all(&mut random).await;
    for id in 1..=size {
        world.running(id).unwrap().store.ready(RECOVERY).await.unwrap();
    }
    let stop = CancellationToken::new();
    let (last, until) = watch::channel(0);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (world, stop) = (Arc::clone(&world), stop.clone());
            let random = StdRng::seed_from_u64(random.random());
            tokio::spawn(async move { world.client(client, random, stop).await })
        })
        .collect();
    let lessee = tokio::spawn({
        let (world, stop) = (Arc::clone(&world), stop.clone());
        let random = StdRng::seed_from_u64(random.random());
        async move { world.lessee(random, stop).await }
    });
    let watchers: Vec<_> = (1..=size)
        .map(|id| {
            let (world, until) = (Arc::clone(&world), until.clone());
            tokio::spawn(async move { world.watcher(id, until).await })
        })
        .collect();
    world.trouble(&mut random).await;

    // From here on everything works, and so must the store.
    world.net.heal();
    world.start_all(&mut random).await;
    stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    lessee.await.unwrap();
    let store = world.running(1).unwrap().store;
    store.ready(RECOVERY).await.unwrap();
    let begun = Instant::now();
    while store.range(RangeRequest::prefix("l/")).await.unwrap().count > 0 {
        assert!(begun.elapsed() < RECOVERY, "seed {seed}: leases do not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut revision = 0;
    for id in 1..=size {
        let store = world.running(id).unwrap().store;
        store.ready(RECOVERY).await.unwrap();
        let begun = Instant::now();
        let written = store.put(PutRequest::new("k/last", format!("last.{id}"))).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "seed {seed}: slow after recovery");
        revision = written.revision;
    }
    last.send_replace(revision);
    let expected: Vec<_> = {
        let store = world.running(1).unwrap().store;
        store.range(RangeRequest::prefix("k/")).await.unwrap().kvs
    };
    for id in 2..=size {
        let store = world.running(id).unwrap().store;
        assert_eq!(
            store.range(RangeRequest::prefix("k/")).await.unwrap().kvs,
            expected,
            "seed {seed}: replica {id} differs"
        );
    }
    let mut history: Option<History> = None;
    for watcher in watchers {
        let seen = tokio::time::timeout(RECOVERY, watcher).await.expect("the watch reaches the end").unwrap();
        let first = history.get_or_insert_with(|| seen.clone());
        let differs = first.iter().zip(&seen).find(|(one, other)| one != other);
        assert_eq!((differs, first.len()), (None, seen.len()), "seed {seed}: two watches saw different things");
    }
    let history = history.unwrap();
    for (key, promised) in world.promised.lock().iter() {
        let deleted = world.deleted.lock().get(key).copied();
        assert!(deleted.is_none_or(|deleted| deleted >= *promised), "seed {seed}: {key} ended early");
    }
    let operations = std::mem::take(&mut *world.operations.lock());
    check::check(&operations, &history);
    let unknown = operations.iter().filter(|operation| operation.outcome == Outcome::Unknown).count();
    (operations.len(), unknown)
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ISTHMUS_SIM_SEEDS") else { return SEEDS };
    let (first, end) = text.split_once("..").expect("ISTHMUS_SIM_SEEDS is first..end");
    first.parse().unwrap()..end.parse().unwrap()
}

#[test]
fn whatever_fails_the_clients_see_one_store() {
    for seed in seeds() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let begun = std::time::Instant::now();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed))));
        let Ok((operations, unknown)) = ran else {
            panic!("seed {seed} fails: ISTHMUS_SIM_SEEDS={seed}..{}", seed + 1)
        };
        println!("seed {seed}: {operations} operations, {unknown} of unknown outcome, {:?}", begun.elapsed());
        assert!(operations > 20, "seed {seed} tried too little");
        runtime.shutdown_background();
    }
}
