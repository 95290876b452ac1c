//! One replica of the store in this process: its parts, put together, started and stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::Quota;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::disk::{Disk, RealDisk};
use super::election::Election;
use super::free_space::{FreeSpace, NoRoom, Room};
use super::leader::Leaders;
use super::leadership::Leadership;
use super::lease_calls::LeaseCalls;
use super::log_store::{LogStore, LogStoreError};
use super::machine::Machine;
use super::members::Members;
use super::network::Network;
use super::peers::Peers;
use super::propose::{self, Proposer};
use super::read_index::{self, ReadIndex};
use super::receiver::{Parts, Receiver};
use super::replica::Replica;
use super::retention::{self, Retention};
use super::rpc::MemberChange;
use super::snapshot::{SnapshotDir, SnapshotError};
use super::snapshot_receive::SnapshotReceiver;
use super::start::{Start, StartError, Starter};
use super::timing::Timing;
use super::transfer::Transfer;
use super::transport::{NoPeers, Transport};
use super::types::Raft;
use super::{intake, quorum, upkeep};
use crate::backend::{Error, Member, Result};
use crate::metrics::Metrics;

mod backup;
mod serve;
mod space;

pub use backup::{RestoreError, Restored};

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A leader that is told to stop hands over first, if that takes no longer.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub struct Options {
    /// Everything the replica stores; created if absent. One process at a time.
    pub dir: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// This replica: its id in the group (not 0), its name, and where others and clients reach it.
    pub member: Member,
    /// What it does if the folder is empty.
    pub start: Start,
    pub timing: Timing,
    /// What all random choices of this run are drawn from, never the same for two runs of a replica; `None` takes the
    /// system's randomness.
    pub seed: Option<u64>,
    pub retention: Retention,
    /// How often an idle watch reports that nothing happened.
    pub progress_interval: Duration,
    /// A snapshot is taken when the log has grown by so many bytes; in a group of several, as many are kept before it.
    pub snapshot_log_bytes: u64,
    /// Size of one log file.
    pub segment_bytes: u64,
    /// How large the kept versions may get in memory before the replica raises the alarm that stops writes.
    pub quota: Quota,
}

impl Options {
    /// A group of one.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            disk: Arc::new(RealDisk),
            member: Member { id: 1, name: "isthmus".to_owned(), ..Member::default() },
            start: Start::Alone,
            timing: Timing::default(),
            seed: None,
            retention: Retention::default(),
            progress_interval: Duration::from_secs(10),
            snapshot_log_bytes: 64 << 20,
            segment_bytes: 16 << 20,
            quota: Quota::DEFAULT,
        }
    }
}

/// Why a replica cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Log(#[from] LogStoreError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(
        "the log starts after entry {purged}, but the newest snapshot ends at {snapshot}: a snapshot is missing. Restore \
         this replica from another one, or from a backup"
    )]
    SnapshotMissing { purged: u64, snapshot: u64 },
    #[error("raft cannot start: {reason}")]
    Raft { reason: String },
    #[error("the replica did not become ready within {timeout:?}: no leader has been found")]
    NotReady { timeout: Duration },
}

pub struct Embedded {
    member: Member,
    has_transport: bool,
    replica: Arc<Replica>,
    raft: Raft,
    peers: Peers,
    proposer: Proposer,
    reads: ReadIndex,
    leadership: Leadership,
    election: Arc<Election>,
    lease_calls: LeaseCalls,
    members: Members,
    transfer: Transfer,
    parts: Arc<Parts>,
    log: LogStore,
    snapshots: SnapshotDir,
    room: Room,
    progress_interval: Duration,
    quota: Quota,
    ready: watch::Receiver<Option<std::result::Result<(), StartError>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Embedded {
    /// Opens or creates a replica that has no way to others, and waits until it serves: all that was acknowledged before
    /// is applied.
    pub async fn open(options: Options, metrics: Metrics) -> std::result::Result<Arc<Self>, OpenError> {
        let store = Self::launch(options, None, metrics).await?;
        store.ready(START_TIMEOUT).await?;
        Ok(store)
    }

    /// Opens or creates a replica of a group. It serves once [`Embedded::ready`] returns; for that, the transports of the
    /// others must be able to reach [`Embedded::receiver`].
    pub async fn start(
        options: Options,
        transport: Arc<dyn Transport>,
        metrics: Metrics,
    ) -> std::result::Result<Arc<Self>, OpenError> {
        Self::launch(options, Some(transport), metrics).await
    }

    async fn launch(
        options: Options,
        transport: Option<Arc<dyn Transport>>,
        metrics: Metrics,
    ) -> std::result::Result<Arc<Self>, OpenError> {
        let Options { dir, member, start, timing, .. } = options.clone();
        let seed = options.seed.unwrap_or_else(rand::random);
        let disk = Arc::clone(&options.disk);
        let log = LogStore::open(&disk, &dir, member.id, options.segment_bytes, metrics.clone())?;
        let snapshots = SnapshotDir::open(disk, dir.join("snapshot"))?;
        let replica = Arc::new(Replica::new(member.id, seed, metrics.clone()));
        restore(&replica, &snapshots, &log)?;
        log.hold_for(snapshots.clone());
        let has_transport = transport.is_some();
        let peers = Peers::new(member.id, transport.unwrap_or_else(|| Arc::new(NoPeers)), log.cluster_id());
        let machine = Machine { replica: Arc::clone(&replica), snapshots: snapshots.clone() };
        let config = Arc::new(timing.config().validate().map_err(raft_failed)?);
        let network = Network { peers: peers.clone() };
        let raft = Raft::new(member.id, config, network, log.clone(), machine).await.map_err(raft_failed)?;

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let leaders = Leaders::new(member.id, &raft, timing);
        let (reads, asker) = read_index::channel(&raft, &peers, &leaders);
        let (intake, composer) = intake::channel(&raft, &metrics);
        let (proposer, batcher) =
            propose::channel(Arc::clone(&replica), &peers, &leaders, intake.clone(), tasks.clone());
        let leadership =
            Leadership::new(raft.clone(), Arc::clone(&replica), reads.clone(), intake.clone(), peers.clone());
        let transfer = Transfer {
            raft: raft.clone(),
            peers: peers.clone(),
            leaders: leaders.clone(),
            intake: intake.clone(),
            timing,
        };
        let members = Members {
            raft: raft.clone(),
            replica: Arc::clone(&replica),
            peers: peers.clone(),
            leaders: leaders.clone(),
            transfer: transfer.clone(),
        };
        let starter = Starter {
            member: member.clone(),
            start,
            raft: raft.clone(),
            log: log.clone(),
            peers: peers.clone(),
            leaders: leaders.clone(),
        };
        let election = Election::new(peers.clone(), raft.clone(), log.clone(), timing);
        let parts = Arc::new(Parts {
            peers: peers.clone(),
            raft: raft.clone(),
            election: Arc::clone(&election),
            snapshots: SnapshotReceiver::new(raft.clone(), tasks.clone()),
            reads: reads.clone(),
            intake: intake.clone(),
            leadership: leadership.clone(),
            members: members.clone(),
            transfer: transfer.clone(),
            starter: starter.clone(),
        });
        tasks.spawn(asker.run(stop.clone()));
        tasks.spawn(composer.run(stop.clone()));
        tasks.spawn(batcher.run(stop.clone()));
        tasks.spawn(Arc::clone(&election).run(seed, stop.clone()));
        tasks.spawn(quorum::watch(raft.clone(), peers.clone(), timing, stop.clone()));
        tasks.spawn(leadership.clone().run(stop.clone()));
        tasks.spawn(members.clone().tend(stop.clone()));
        tasks.spawn(upkeep::expire_leases(Arc::clone(&replica), leadership.clone(), stop.clone()));
        tasks.spawn(retention::run(Arc::clone(&replica), leadership.clone(), options.retention, stop.clone()));
        let log_bytes = options.snapshot_log_bytes;
        tasks.spawn(upkeep::bound_log(Arc::clone(&replica), raft.clone(), log.clone(), log_bytes, stop.clone()));
        let room = Room {
            disk: Arc::clone(&options.disk),
            dir: options.dir.clone(),
            snapshots: snapshots.clone(),
            segment_bytes: options.segment_bytes,
        };
        let space = FreeSpace {
            room: room.clone(),
            member_id: member.id,
            replica: Arc::clone(&replica),
            proposer: proposer.clone(),
        };
        tasks.spawn(space.watch(stop.clone()));
        let (readiness, ready) = watch::channel(None);
        let (entering, known) = (Arc::clone(&replica), members.clone());
        let (confirmed, stopped, own) = (reads.clone(), stop.clone(), member.clone());
        tasks.spawn(async move {
            let entered = enter(&starter, &confirmed, &entering, seed, &stopped).await;
            let is_in = entered.is_ok();
            readiness.send_replace(Some(entered));
            if is_in {
                publish(&own, &entering, &known, &stopped).await;
            }
        });
        tasks.close();
        let lease_calls = LeaseCalls { peers: peers.clone(), leaders, leadership: leadership.clone() };
        let progress_interval = options.progress_interval;
        Ok(Arc::new(Self {
            member,
            has_transport,
            replica,
            raft,
            election,
            peers,
            proposer,
            reads,
            leadership,
            lease_calls,
            members,
            transfer,
            parts,
            log,
            snapshots,
            room,
            progress_interval,
            quota: options.quota,
            ready,
            stop,
            tasks,
        }))
    }

    /// Waits until this replica belongs to a group and has seen all that was acknowledged before.
    pub async fn ready(&self, timeout: Duration) -> std::result::Result<(), OpenError> {
        let mut ready = self.ready.clone();
        let entered = tokio::time::timeout(timeout, ready.wait_for(Option::is_some)).await;
        match entered.map(|entered| entered.ok().and_then(|entered| entered.clone())) {
            Ok(Some(entered)) => entered.map_err(OpenError::from),
            Ok(None) => Err(StartError::Failed { reason: "it was stopped".to_owned() }.into()),
            Err(_) => Err(OpenError::NotReady { timeout }),
        }
    }

    /// Where the calls of other replicas are served.
    pub fn receiver(&self) -> Receiver {
        Receiver { parts: Arc::downgrade(&self.parts) }
    }

    /// Stops serving: leadership is handed over, watches end, later calls fail, and when it returns nothing of the store
    /// runs any more.
    pub async fn shutdown(&self) {
        if !self.stop.is_cancelled()
            && let Some(successor) = self.transfer.successor()
        {
            let handed = tokio::time::timeout(HAND_OVER_TIMEOUT, self.transfer.hand_over(successor)).await;
            tracing::info!(successor, handed = ?handed.ok(), "leadership handed over before the end");
        }
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "raft ended with a panic");
        }
    }

    /// Resolves when storage or consensus has failed, with the reason: the replica answers no write any more until it is
    /// started again.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            // openraft drops the sender without a last word only when its task was thrown away.
            if metrics.changed().await.is_err() {
                return "consensus has ended".to_owned();
            }
        }
    }

    /// Whether the disk has the room that the replica wants to have. One that failed for want of it would fail again.
    pub fn has_room(&self) -> std::result::Result<(), NoRoom> {
        self.room.check()
    }

    /// Takes a snapshot now and lets the log before it go. Returns when it is asked for, not when it is done.
    pub async fn snapshot(&self) -> Result<()> {
        self.raft.trigger().snapshot().await.map_err(|fatal| Error::Failed { reason: fatal.to_string() })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Without a runtime openraft cannot be waited for; its tasks end when their channels do.
        self.stop.cancel();
    }
}

fn raft_failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Raft { reason: error.to_string() }
}

/// Loads the newest snapshot. The log must go on from there.
fn restore(replica: &Replica, snapshots: &SnapshotDir, log: &LogStore) -> std::result::Result<(), OpenError> {
    let snapshot = snapshots.load()?;
    let covered = snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id).map(|log_id| log_id.index);
    if let Some(snapshot) = snapshot {
        replica.restore(snapshot);
    }
    match log.purged().map(|log_id| log_id.index) {
        Some(purged) if covered.is_none_or(|covered| covered < purged) => {
            Err(OpenError::SnapshotMissing { purged, snapshot: covered.unwrap_or(0) })
        }
        _ => Ok(()),
    }
}

/// Gets into the group, and up to date once.
async fn enter(
    starter: &Starter,
    reads: &ReadIndex,
    replica: &Replica,
    seed: u64,
    stop: &CancellationToken,
) -> std::result::Result<(), StartError> {
    starter.run(seed, stop).await?;
    let caught_up = async {
        loop {
            match reads.confirm().await {
                Ok(index) => replica.applied(index).await,
                Err(Error::Failed { reason }) => return Err(StartError::Failed { reason }),
                Err(error) => {
                    let ended = starter.raft.metrics().borrow().running_state.clone();
                    if let Err(fatal) = ended {
                        // Nobody will be heard of any more, and the question fails at once.
                        return Err(StartError::Failed { reason: fatal.to_string() });
                    }
                    tracing::info!(%error, "still waiting for a leader");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            }
            if replica.cluster_id() != 0 {
                return Ok(());
            }
            // The first leader has still to number the group.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Err(StartError::Failed { reason: "it was stopped".to_owned() }),
        caught_up = caught_up => caught_up,
    }
}

/// Tells the group what this replica is called and where its clients find it, if that has changed.
async fn publish(own: &Member, replica: &Replica, members: &Members, stop: &CancellationToken) {
    let known = replica.members().into_iter().find(|member| member.id == own.id);
    let differs = |known: &Member| known.name != own.name || known.client_urls != own.client_urls;
    while known.as_ref().is_some_and(differs) {
        let change = MemberChange::Publish { id: own.id, name: own.name.clone(), client_urls: own.client_urls.clone() };
        tokio::select! {
            () = stop.cancelled() => return,
            published = members.change(change) => match published {
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "name and addresses cannot be published now, trying again"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
