//! A group of replicas in one process: real files, and a network whose lines can be cut.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store::backend::Member;
use mesh_store::mvcc::{PutRequest, RangeRequest};
use mesh_store::{
    Embedded, LogStoreError, Metrics, OpenError, Options, Receiver, Start, Store, Transport, TransportError,
};
use parking_lot::Mutex;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Net {
    receivers: Mutex<HashMap<u64, Receiver>>,
    /// Lines that swallow everything, as (from, to).
    cut: Mutex<HashSet<(u64, u64)>>,
}

impl Net {
    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.lock().contains(&(from, to))
    }
}

/// One replica's end of the network; dead once the replica was killed.
struct Wire {
    net: Arc<Net>,
    from: u64,
    alive: Arc<AtomicBool>,
}

impl Transport for Wire {
    fn call(&self, to: &Member, message: Bytes, _: Duration) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        let to = to.id;
        async move {
            if self.net.is_cut(self.from, to) || !self.alive.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
            let receiver = self.net.receivers.lock().get(&to).cloned();
            let unreachable = || TransportError::Unreachable { id: to, reason: "nobody is there".to_owned() };
            let answer = receiver.ok_or_else(unreachable)?.receive(&message, |id| id == self.from).await;
            if self.net.is_cut(to, self.from) || !self.net.receivers.lock().contains_key(&to) {
                std::future::pending::<()>().await;
            }
            Ok(answer)
        }
        .boxed()
    }
}

struct Running {
    store: Arc<Embedded>,
    alive: Arc<AtomicBool>,
}

pub(crate) struct Group {
    net: Arc<Net>,
    dir: tempfile::TempDir,
    running: BTreeMap<u64, Running>,
    pub(crate) tune: fn(&mut Options),
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("replica-{id}"),
        peer_urls: vec![format!("https://replica-{id}:2380")],
        client_urls: vec![format!("https://replica-{id}:2379")],
        is_learner: false,
    }
}

impl Group {
    pub(crate) fn new() -> Self {
        Self { net: Arc::default(), dir: tempfile::tempdir().unwrap(), running: BTreeMap::new(), tune: |_| {} }
    }

    /// Founds a group and waits until every replica serves.
    pub(crate) async fn of(size: u64, tune: fn(&mut Options)) -> Self {
        let mut group = Self { tune, ..Self::new() };
        for id in 1..=size {
            group.start(id, Start::Together { members: (1..=size).map(member).collect() }).await;
        }
        for store in group.stores() {
            store.ready(DEADLINE).await.unwrap();
        }
        group
    }

    pub(crate) fn dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub(crate) async fn start(&mut self, id: u64, start: Start) -> Arc<Embedded> {
        let mut options =
            Options { member: member(id), start, segment_bytes: 256 * 1024, ..Options::new(self.dir(id)) };
        (self.tune)(&mut options);
        let alive = Arc::new(AtomicBool::new(true));
        let started = Instant::now();
        let store = loop {
            let wire = Wire { net: Arc::clone(&self.net), from: id, alive: Arc::clone(&alive) };
            match Embedded::start(options.clone(), Arc::new(wire), Metrics::detached()).await {
                Ok(store) => break store,
                // The one that was killed is still going down.
                Err(OpenError::Log(LogStoreError::InUse { .. })) if started.elapsed() < DEADLINE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        self.net.receivers.lock().insert(id, store.receiver());
        self.running.insert(id, Running { store: Arc::clone(&store), alive });
        store
    }

    pub(crate) async fn restart(&mut self, id: u64) -> Arc<Embedded> {
        let store = self.start(id, Start::Join { members: Vec::new() }).await;
        store.ready(DEADLINE).await.unwrap();
        store
    }

    /// From one moment to the next it says nothing any more and hears nothing.
    pub(crate) fn kill(&mut self, id: u64) {
        self.net.receivers.lock().remove(&id);
        if let Some(running) = self.running.remove(&id) {
            running.alive.store(false, Ordering::Release);
        }
    }

    /// Shuts a replica down as a process does that was told to stop.
    pub(crate) async fn stop(&mut self, id: u64) {
        let running = self.running.remove(&id).unwrap();
        running.store.shutdown().await;
        self.net.receivers.lock().remove(&id);
    }

    pub(crate) fn kill_all(mut self) {
        for id in self.ids() {
            self.kill(id);
        }
    }

    pub(crate) fn store(&self, id: u64) -> Arc<Embedded> {
        Arc::clone(&self.running[&id].store)
    }

    pub(crate) fn stores(&self) -> Vec<Arc<Embedded>> {
        self.running.values().map(|running| Arc::clone(&running.store)).collect()
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.running.keys().copied().collect()
    }

    /// Cuts a replica off from all others.
    pub(crate) fn isolate(&self, id: u64) {
        let mut cut = self.net.cut.lock();
        for other in self.running.keys().filter(|other| **other != id) {
            cut.extend([(id, *other), (*other, id)]);
        }
    }

    /// Nothing reaches the replica any more, but it is heard.
    pub(crate) fn deafen(&self, id: u64) {
        self.net.cut.lock().extend(self.running.keys().filter(|other| **other != id).map(|other| (*other, id)));
    }

    pub(crate) fn heal(&self) {
        self.net.cut.lock().clear();
    }

    /// The replica that a quorum follows.
    pub(crate) async fn leader(&self) -> u64 {
        let started = Instant::now();
        loop {
            let mut votes: HashMap<u64, usize> = HashMap::new();
            for store in self.stores() {
                *votes.entry(store.status().await.unwrap().leader).or_default() += 1;
            }
            let chosen = votes.iter().find(|(id, count)| **id != 0 && **count * 2 > self.running.len());
            if let Some((id, _)) = chosen.filter(|(id, _)| self.running.contains_key(id)) {
                return *id;
            }
            assert!(started.elapsed() < DEADLINE, "a leader: {votes:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        self.ids().into_iter().find(|id| *id != leader).unwrap()
    }
}

pub(crate) async fn put(store: &Embedded, key: impl Into<Bytes>, value: impl Into<Bytes>) -> i64 {
    store.put(PutRequest::new(key, value)).await.unwrap().revision
}

/// A linearizable read; 0 for a key that is not there.
pub(crate) async fn mod_revision(store: &Embedded, key: &'static str) -> i64 {
    let found = store.range(RangeRequest::get(key)).await.unwrap();
    found.kvs.first().map_or(0, |kv| kv.mod_revision)
}

pub(crate) async fn wait_for(mut condition: impl AsyncFnMut() -> bool, what: &str) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
