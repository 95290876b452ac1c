//! What the store says has happened: read in a moment of peace, from each replica by itself, and held against what the keys
//! hold then.
//!
//! History is read by watches that begin in the past of a store that is well, never by the watchers that are judged; since
//! old history is forgotten, it is read piece by piece.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{GetOptions, ResponseHeader, WatchOptions};
use mesh_store_sim::check::Promise;
use mesh_store_sim::history::{Committed, Key, Value};
use topology_tests::deadline::wait_for;
use topology_tests::scenario::Scenario;

use crate::clients::{self, PREFIX};
use crate::watchers;
use crate::world::{World, in_network};

/// Well below the age at which history is forgotten.
const EVERY: Duration = Duration::from_secs(45);
const READ_WITHIN: Duration = Duration::from_mins(1);

/// Above every number that clients write.
const FOREIGN: Value = 1 << 62;

type State = BTreeMap<Key, (Value, i64)>;

pub(crate) struct Historian<'a> {
    s: &'a Scenario,
    world: Arc<World>,
    /// The first revision that has not been read.
    next: i64,
    state: State,
    read_at: Instant,
}

/// What one replica tells at a checkpoint.
struct Told {
    history: Committed,
    state: State,
    hash: (u32, i64),
}

impl<'a> Historian<'a> {
    pub(crate) fn new(s: &'a Scenario, world: Arc<World>) -> Self {
        Self { s, world, next: 1, state: State::new(), read_at: Instant::now() }
    }

    pub(crate) fn read_if_due(&mut self) {
        if self.read_at.elapsed() >= EVERY {
            self.read();
        }
    }

    /// Everything up to a write of now, whose revision it gives.
    pub(crate) fn read(&mut self) -> i64 {
        self.read_at = Instant::now();
        let upto = wait_for("a write at a checkpoint", READ_WITHIN, || {
            self.ask(async |world| {
                let mut etcd = world.access.client(0).await.context("no client")?;
                let put = etcd.put(format!("{PREFIX}checkpoint"), world.value().to_string(), None).await?;
                Ok(put.header().context("no header")?.revision())
            })
            .map(Some)
        });
        let upto = match upto {
            Ok(upto) => upto,
            Err(error) => {
                self.world.violation(Promise::Recovers, format!("{error:#}"));
                return self.next - 1;
            }
        };
        let mut hashes = BTreeMap::new();
        let replicas: Vec<u64> = self.world.access.replicas().collect();
        for (place, replica) in replicas.into_iter().enumerate() {
            let from = self.next;
            let told = wait_for(&format!("replica {replica} to tell its history"), READ_WITHIN, || {
                self.ask(async move |world| tell(&world, replica, from, upto).await).map(Some)
            });
            let Told { history: piece, state, hash } = match told {
                Ok(told) => told,
                Err(error) => {
                    self.world.violation(Promise::Recovers, format!("{error:#}"));
                    continue;
                }
            };
            if place == 0 {
                self.follow(&piece);
                self.world.history.lock().committed.extend(piece.clone());
            }
            if state != self.state {
                let differ = state.iter().find(|(key, held)| self.state.get(*key) != Some(*held));
                let what = format!(
                    "replica {replica} holds at {upto} what its history does not lead to: {} keys, {} by history, {differ:?}",
                    state.len(),
                    self.state.len()
                );
                self.world.violation(Promise::Revisions, what);
            }
            self.world.history.lock().replicas.entry(replica).or_default().extend(piece);
            hashes.insert(replica, hash);
        }
        // A compaction between two answers makes them differ rightly.
        for (one, other) in hashes.iter().zip(hashes.iter().skip(1)) {
            if one.1.1 == other.1.1 && one.1.0 != other.1.0 {
                self.world.violation(Promise::Revisions, format!("replicas have other hashes at {upto}: {hashes:?}"));
            }
        }
        self.next = upto + 1;
        upto
    }

    fn follow(&mut self, piece: &Committed) {
        for (revision, changes) in piece {
            for change in changes.iter().filter(|change| change.key.starts_with(PREFIX)) {
                match change.value {
                    Some(value) => drop(self.state.insert(change.key.clone(), (value, *revision))),
                    None => drop(self.state.remove(&change.key)),
                }
            }
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl AsyncFnOnce(Arc<World>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let world = Arc::clone(&self.world);
        let asked = in_network(self.s, async move || tokio::time::timeout(READ_WITHIN / 4, question(world)).await);
        asked.join().unwrap()?
    }
}

async fn tell(world: &World, replica: u64, from: i64, upto: i64) -> Result<Told> {
    let mut etcd = world.access.client_of(replica).await.context("it takes no connection")?;
    let mut history = Committed::new();
    // Of all keys, the product's own, too: then every revision must be there.
    let options = WatchOptions::new().with_all_keys().with_start_revision(from);
    let mut watch = etcd.watch("", Some(options)).await?;
    let mut reached = 0;
    while reached < upto {
        let response = watch.message().await?.context("the watch ended")?;
        ensure!(!response.canceled(), "the watch was cancelled: {}", response.cancel_reason());
        for event in response.events() {
            let (revision, mut change) = watchers::change(event);
            if !change.key.starts_with(PREFIX) {
                // Not written by clients, so not a number: a value that no other revision has stands for it.
                change.value = change.value.map(|_| FOREIGN + revision.unsigned_abs());
            }
            if revision <= upto {
                history.entry(revision).or_default().push(change);
            }
            reached = reached.max(revision);
        }
    }
    let at = GetOptions::new().with_prefix().with_revision(upto);
    let read = etcd.get(PREFIX, Some(at)).await?;
    let held = |kv: &etcd_client::KeyValue| {
        (String::from_utf8_lossy(kv.key()).into_owned(), (clients::value(kv), kv.mod_revision()))
    };
    let state = read.kvs().iter().map(held).collect();
    world.note_cluster(read.header().map_or(0, ResponseHeader::cluster_id));
    let hash = etcd.hash_kv(upto).await?;
    Ok(Told { history, state, hash: (hash.hash(), hash.compact_version()) })
}
