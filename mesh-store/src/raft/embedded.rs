//! [`Store`] over one openraft replica in this process.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store_mvcc::{
    Command, DeleteRangeRequest, DeleteRangeResponse, LeaseGranted, LeaseId, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Response, TxnRequest, TxnResponse,
};
use openraft::{ServerState, SnapshotPolicy};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log_store::{LogStore, LogStoreError};
use super::machine::Machine;
use super::network::NoPeers;
use super::propose::{self, Proposer};
use super::replica::Replica;
use super::retention::{self, Retention};
use super::snapshot::{SnapshotDir, SnapshotError};
use super::types::{Content, NodeId, Peer, Proposal, Raft, Waiters};
use super::{upkeep, watch};
use crate::backend::{
    Error, Identity, LeaseTimeToLive, Member, MemberError, Result, Status, Store, WatchRequest, Watcher,
};
use crate::metrics::Metrics;

/// The bound on operations of one transaction for callers inside the process.
const MAX_TXN_OPS: usize = 100_000;
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Entries before a snapshot that are kept for replicas that are a little behind: a group of one has none.
const LOGS_BEFORE_SNAPSHOT: u64 = 0;

#[derive(Clone, Debug)]
pub struct Options {
    /// Everything the replica stores; created if absent. One process at a time.
    pub dir: PathBuf,
    /// This replica's number in its group, not 0.
    pub node_id: u64,
    pub retention: Retention,
    /// How often an idle watch reports that nothing happened.
    pub progress_interval: Duration,
    /// A snapshot is taken when the log has grown by so many bytes.
    pub snapshot_log_bytes: u64,
    /// Size of one log file.
    pub segment_bytes: u64,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            node_id: 1,
            retention: Retention::default(),
            progress_interval: Duration::from_secs(10),
            snapshot_log_bytes: 64 << 20,
            segment_bytes: 16 << 20,
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
    #[error(
        "the log starts after entry {purged}, but the newest snapshot ends at {snapshot}: a snapshot is missing. Restore \
         this replica from another one, or from a backup"
    )]
    SnapshotMissing { purged: u64, snapshot: u64 },
    #[error("raft cannot start: {reason}")]
    Raft { reason: String },
    #[error("the replica did not become ready within {START_TIMEOUT:?}: {reason}")]
    NotReady { reason: String },
}

pub struct Embedded {
    node_id: u64,
    replica: Arc<Replica>,
    raft: Raft,
    proposer: Proposer,
    log: LogStore,
    snapshots: SnapshotDir,
    progress_interval: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Embedded {
    /// Opens or creates the store and waits until it serves: all that was acknowledged before is applied.
    pub async fn open(options: Options, metrics: Metrics) -> std::result::Result<Arc<Self>, OpenError> {
        let log = LogStore::open(&options.dir, options.segment_bytes, metrics.clone())?;
        let snapshots = SnapshotDir::open(options.dir.join("snapshot"))?;
        let replica = Arc::new(Replica::new(metrics.clone()));
        let snapshot = snapshots.load()?;
        let covered = snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id).map(|log_id| log_id.index);
        if let Some(snapshot) = snapshot {
            replica.restore(snapshot);
        }
        if let Some(purged) = log.purged().map(|log_id| log_id.index)
            && covered.is_none_or(|covered| covered < purged)
        {
            return Err(OpenError::SnapshotMissing { purged, snapshot: covered.unwrap_or(0) });
        }
        let machine = Machine { replica: Arc::clone(&replica), snapshots: snapshots.clone() };
        let raft = start_raft(options.node_id, log.clone(), machine).await?;
        await_applied(&raft, options.node_id).await?;
        if replica.cluster_id() == 0 {
            found_cluster(&raft, &replica).await?;
        }

        let (proposer, batcher) = propose::channel(raft.clone(), metrics);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(batcher.run(stop.clone()));
        tasks.spawn(upkeep::expire_leases(Arc::clone(&replica), proposer.clone(), stop.clone()));
        let retained = retention::run(Arc::clone(&replica), proposer.clone(), options.retention, stop.clone());
        tasks.spawn(retained);
        let bounded = upkeep::bound_log(
            Arc::clone(&replica),
            raft.clone(),
            log.clone(),
            options.snapshot_log_bytes,
            stop.clone(),
        );
        tasks.spawn(bounded);
        tasks.close();
        let progress_interval = options.progress_interval;
        let node_id = options.node_id;
        Ok(Arc::new(Self { node_id, replica, raft, proposer, log, snapshots, progress_interval, stop, tasks }))
    }

    /// Stops serving: watches end, later calls fail, and when it returns nothing of the store runs any more.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "raft ended with a panic");
        }
    }

    /// False once storage or consensus has failed: the replica answers no write any more until it is restarted.
    pub fn is_healthy(&self) -> bool {
        self.raft.metrics().borrow().running_state.is_ok()
    }

    /// Takes a snapshot now and lets the log before it go. Returns when it is asked for, not when it is done.
    pub async fn snapshot(&self) -> Result<()> {
        self.raft.trigger().snapshot().await.map_err(|fatal| Error::Failed { reason: fatal.to_string() })
    }

    /// Sees to it that what this replica has applied is not older than the call.
    ///
    /// The only voter of a group needs to ask nobody: a write is acknowledged after it was applied here, and nobody else
    /// can have acknowledged one.
    async fn catch_up(&self) -> Result<()> {
        if self.replica.voters() <= 1 {
            return Ok(());
        }
        self.raft.ensure_linearizable().await.map(drop).map_err(|error| {
            tracing::debug!(%error, "linearizable read refused");
            Error::NoLeader
        })
    }

    /// Why the only member of a group cannot be changed.
    fn refuse_alone(&self, id: NodeId, known: MemberError) -> Error {
        if id == self.node_id { known.into() } else { MemberError::NotFound.into() }
    }

    async fn propose(&self, command: Command) -> Result<Response> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.proposer.propose(command).await
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

async fn start_raft(id: NodeId, log: LogStore, machine: Machine) -> std::result::Result<Raft, OpenError> {
    let config = openraft::Config {
        cluster_name: "isthmus".to_owned(),
        heartbeat_interval: 300,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        // Snapshots are asked for by size, see upkeep.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: LOGS_BEFORE_SNAPSHOT,
        ..openraft::Config::default()
    };
    let config = Arc::new(config.validate().map_err(raft_failed)?);
    let raft = Raft::new(id, config, NoPeers, log, machine).await.map_err(raft_failed)?;
    if raft.is_initialized().await.map_err(raft_failed)? {
        // The only voter need not wait for silence before it stands for election.
        raft.trigger().elect().await.map_err(raft_failed)?;
    } else {
        raft.initialize(BTreeMap::from([(id, Peer::default())])).await.map_err(raft_failed)?;
    }
    Ok(raft)
}

/// Waits until this replica leads and has applied its whole log.
async fn await_applied(raft: &Raft, id: NodeId) -> std::result::Result<(), OpenError> {
    let leads = |metrics: &openraft::RaftMetrics<NodeId, Peer>| {
        metrics.state == ServerState::Leader
            && metrics.current_leader == Some(id)
            && metrics.last_applied.map(|log_id| log_id.index) == metrics.last_log_index
    };
    let waited = raft.wait(Some(START_TIMEOUT)).metrics(leads, "leader with an applied log").await;
    waited.map(drop).map_err(|error| OpenError::NotReady { reason: error.to_string() })
}

/// Gives a new store its number, through the log, so that every replica will have the same.
async fn found_cluster(raft: &Raft, replica: &Replica) -> std::result::Result<(), OpenError> {
    let cluster_id = loop {
        let id: u64 = rand::random();
        if id != 0 {
            break id;
        }
    };
    let proposal = Proposal { content: Content::Genesis { cluster_id }, waiters: Waiters::default() };
    raft.client_write_ff(proposal).await.map_err(raft_failed)?;
    let waited = raft.wait(Some(START_TIMEOUT)).metrics(|_| replica.cluster_id() != 0, "the store's number").await;
    waited.map(drop).map_err(|error| OpenError::NotReady { reason: error.to_string() })
}

fn unexpected(response: &Response) -> Error {
    Error::Failed { reason: format!("the state machine answered another command: {response:?}") }
}

impl Store for Embedded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            if !request.serializable {
                self.catch_up().await?;
            }
            Ok(self.replica.state.read().mvcc.range(&request)?)
        }
        .boxed()
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        async move {
            request.check()?;
            match self.propose(Command::Put(request)).await? {
                Response::Put(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        async move {
            match self.propose(Command::DeleteRange(request)).await? {
                Response::DeleteRange(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        async move {
            request.check(MAX_TXN_OPS)?;
            if request.is_read_only() {
                self.catch_up().await?;
                return Ok(self.replica.state.read().mvcc.read_txn(&request)?);
            }
            match self.propose(Command::Txn(request)).await? {
                Response::Txn(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<i64>> {
        async move {
            match self.propose(Command::Compact { revision }).await? {
                Response::Compact { revision } => Ok(revision),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>> {
        async move {
            if self.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            Ok(watch::start(&self.replica, request, self.progress_interval, self.stop.clone()))
        }
        .boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>> {
        async move {
            match self.propose(Command::LeaseGrant { id, ttl }).await? {
                Response::LeaseGrant(granted) => Ok(granted),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        async move {
            match self.propose(Command::LeaseRevoke { id }).await? {
                Response::LeaseRevoke { revision } => Ok(revision),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        let renewed = self.replica.leases.renew(id).ok_or(Error::Refused(mesh_store_mvcc::Error::LeaseNotFound));
        async move { renewed }.boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>> {
        async move {
            self.catch_up().await?;
            let state = self.replica.state.read();
            let Some(granted_ttl) = state.mvcc.lease_ttl(id) else {
                return Ok(LeaseTimeToLive { id, ttl: -1, ..LeaseTimeToLive::default() });
            };
            let keys = if keys { state.mvcc.lease_keys(id).unwrap_or_default() } else { Vec::new() };
            drop(state);
            let left = self.replica.leases.remaining(id).unwrap_or_default();
            let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            Ok(LeaseTimeToLive { id, ttl, granted_ttl, keys })
        }
        .boxed()
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        async move {
            self.catch_up().await?;
            let mut leases: Vec<LeaseId> = self.replica.state.read().mvcc.leases().map(|(id, _)| id).collect();
            leases.sort_by_cached_key(|id| self.replica.leases.deadline(*id));
            Ok(leases)
        }
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        async move {
            let raft = self.raft.metrics().borrow().clone();
            let snapshot = self.snapshots.newest().ok().flatten().and_then(|path| fs::metadata(path).ok());
            let state = self.replica.state.read();
            Ok(Status {
                revision: state.mvcc.revision(),
                compact_revision: state.mvcc.compact_revision(),
                leader: raft.current_leader.unwrap_or(0),
                raft_index: raft.last_log_index.unwrap_or(0),
                raft_applied_index: state.last.map_or(0, |log_id| log_id.index),
                db_size: self.log.bytes().0 + snapshot.map_or(0, |file| file.len()),
                db_size_in_use: state.mvcc.bytes_in_use() as u64,
                keys: state.mvcc.key_count() as u64,
                is_learner: raft.state == ServerState::Learner,
            })
        }
        .boxed()
    }

    fn members(&self, linearizable: bool) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move {
            if linearizable {
                self.catch_up().await?;
            }
            Ok(self.replica.members())
        }
        .boxed()
    }

    fn member_add(&self, _: Member) -> BoxFuture<'_, Result<Member>> {
        async move { Err(MemberError::Alone.into()) }.boxed()
    }

    fn member_remove(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move { Err(self.refuse_alone(id, MemberError::NotEnoughStarted)) }.boxed()
    }

    fn member_promote(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move { Err(self.refuse_alone(id, MemberError::NotLearner)) }.boxed()
    }

    fn member_update(&self, id: u64, _: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move { Err(self.refuse_alone(id, MemberError::Alone)) }.boxed()
    }

    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<()>> {
        async move { if to == self.node_id { Ok(()) } else { Err(MemberError::BadTransferee.into()) } }.boxed()
    }

    fn identity(&self) -> Identity {
        Identity { cluster_id: self.replica.cluster_id(), member_id: self.node_id, raft_term: self.replica.term() }
    }

    fn revision(&self) -> i64 {
        self.replica.revision()
    }
}
