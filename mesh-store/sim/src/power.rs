//! All replicas lose power at once under load, again and again, on disks that keep nothing but what was synced.
//!
//! The clock is the real one and the replicas run on threads, unlike in a [`crate::world`]: the thread that writes the log,
//! group commit, and the races between them are those of a process. What was acknowledged must be there afterwards, at its
//! revision, in the same group.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_store::backend::Member;
use mesh_store::mvcc::{PutRequest, RangeRequest};
use mesh_store::{Embedded, Metrics, Options, Start, Store as _};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::trace::Trace;
use crate::world::disk::SimDisk;
use crate::world::net::{Net, Wire};

const SIZE: u64 = 3;
const WRITERS: u64 = 12;
/// A group that has lost power serves again within this.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the rounds have come to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rounds: u32,
    pub acknowledged: usize,
    /// Writes whose answer did not come before the power went.
    pub unanswered: u64,
    /// What was on no disk when the power went, over all replicas.
    pub lost_bytes: usize,
    pub revision: i64,
    pub slowest_recovery: Duration,
}

/// Each acknowledged write: its key and the revision it was told.
type Acknowledged = BTreeMap<String, i64>;

struct Replica {
    id: u64,
    store: Arc<Embedded>,
}

struct Group {
    net: Arc<Net>,
    disks: BTreeMap<u64, SimDisk>,
    random: StdRng,
}

/// Runs so many rounds; the error says what an acknowledged write or the group has lost.
pub async fn run(rounds: u32, seed: u64) -> Result<Report, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let net = Net::new(random.random(), Arc::new(Trace::new(None)));
    let disks = (1..=SIZE).map(|id| (id, SimDisk::strict())).collect();
    let mut group = Group { net, disks, random };
    let mut report = Report { rounds, ..Report::default() };
    let mut acknowledged = Acknowledged::new();
    let mut cluster_id = 0;
    for round in 0..=rounds {
        let begun = Instant::now();
        let replicas = group.start().await?;
        for replica in &replicas {
            let told = replica.store.cluster_id();
            if cluster_id != 0 && cluster_id != told {
                return Err(format!("round {round}: the group's number was {cluster_id:x} and is {told:x}"));
            }
            cluster_id = told;
            check(round, replica, &acknowledged).await?;
        }
        if round > 0 {
            report.slowest_recovery = report.slowest_recovery.max(begun.elapsed());
        }
        report.revision = replicas[0].store.revision();
        if round == rounds {
            // The last start was to look at what the last round has left.
            for replica in &replicas {
                replica.store.shutdown().await;
            }
            break;
        }
        report.unanswered += group.load(round, &replicas, &mut acknowledged).await;
        report.lost_bytes += group.lose_power(replicas);
    }
    report.acknowledged = acknowledged.len();
    Ok(report)
}

impl Group {
    async fn start(&mut self) -> Result<Vec<Replica>, String> {
        let members: Vec<Member> = (1..=SIZE).map(member).collect();
        let mut replicas = Vec::new();
        for (id, disk) in &self.disks {
            let options = Options {
                disk: Arc::new(disk.clone()),
                member: member(*id),
                start: Start::Together { members: members.clone() },
                seed: Some(self.random.random()),
                // So small that every round rotates files and takes snapshots.
                snapshot_log_bytes: 24 << 10,
                segment_bytes: 16 << 10,
                ..Options::new(PathBuf::from("/store"))
            };
            let wire = Wire { net: Arc::clone(&self.net), from: *id, dead: disk.dead() };
            let started = Embedded::start(options, Arc::new(wire), Metrics::detached()).await;
            let store = started.map_err(|error| format!("replica {id} cannot start: {error}: {error:?}"))?;
            self.net.attach(*id, store.receiver());
            replicas.push(Replica { id: *id, store });
        }
        for Replica { id, store } in &replicas {
            store.ready(PATIENCE).await.map_err(|error| format!("replica {id} does not come back: {error}"))?;
        }
        Ok(replicas)
    }

    /// Clients write until the power goes, at a moment drawn at random; returns how many were left without an answer.
    async fn load(&mut self, round: u32, replicas: &[Replica], acknowledged: &mut Acknowledged) -> u64 {
        let told = Arc::new(Mutex::new(Acknowledged::new()));
        let over = CancellationToken::new();
        let writers = TaskTracker::new();
        let mut unanswered = Vec::new();
        for writer in 0..WRITERS {
            let replica = &replicas[usize::try_from(writer % SIZE).unwrap_or(0)];
            let (store, told, over) = (Arc::clone(&replica.store), Arc::clone(&told), over.clone());
            unanswered.push(writers.spawn(async move {
                for n in 0_u64.. {
                    let key = format!("{round}/{writer}/{n}");
                    let put = tokio::select! {
                        biased;
                        () = over.cancelled() => return 1,
                        put = store.put(PutRequest::new(key.clone(), key.clone())) => put,
                    };
                    match put {
                        Ok(put) => told.lock().insert(key, put.revision),
                        Err(_) => return 1,
                    };
                }
                0
            }));
        }
        let lasts = self.random.random_range(Duration::from_millis(30)..Duration::from_millis(300));
        tokio::time::sleep(lasts).await;
        for disk in self.disks.values() {
            disk.dead().cancel();
        }
        over.cancel();
        let mut count = 0;
        for unanswered in unanswered {
            count += unanswered.await.unwrap_or(1);
        }
        acknowledged.append(&mut told.lock());
        count
    }

    /// Each disk keeps what was synced. Returns how many bytes were not.
    fn lose_power(&mut self, replicas: Vec<Replica>) -> usize {
        let mut lost = 0;
        for Replica { id, store } in replicas {
            self.net.detach(id);
            if let Some(disk) = self.disks.get_mut(&id) {
                lost += disk.unsynced_bytes();
                *disk = disk.crash(&mut self.random);
            }
            // What is left of it in this process has no disk and hears nothing.
            self.net.background(async move { store.shutdown().await });
        }
        lost
    }
}

/// Whether a replica holds every acknowledged write, at its revision.
async fn check(round: u32, replica: &Replica, acknowledged: &Acknowledged) -> Result<(), String> {
    let Replica { id, store } = replica;
    let read = store.range(RangeRequest::prefix("")).await;
    let read = read.map_err(|error| format!("round {round}: replica {id} cannot be read: {error}"))?;
    let held: BTreeMap<String, i64> =
        read.kvs.iter().map(|kv| (String::from_utf8_lossy(&kv.key).into_owned(), kv.mod_revision)).collect();
    for (key, revision) in acknowledged {
        if held.get(key) != Some(revision) {
            let there = held.get(key);
            return Err(format!(
                "before round {round}: {key} was acknowledged at revision {revision}, replica {id} has it at {there:?}"
            ));
        }
    }
    Ok(())
}

fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("replica-{id}"),
        peer_urls: vec![format!("https://replica-{id}:2380")],
        ..Member::default()
    }
}
