//! The face of the store: what every backend offers and every caller in the process programs against.
//!
//! It owns the trait [`Store`] and the types of its answers. It must never name Raft, gRPC or protobuf: requests and
//! responses are those of `mesh-store-mvcc`, so a caller in the process pays for no encoding.

use futures::future::BoxFuture;
use mesh_store_mvcc::{
    Alarm, AlarmAction, DeleteRangeRequest, DeleteRangeResponse, HashKv, LeaseGranted, LeaseId, Overlay, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

mod backup;
mod error;
mod member;
mod watcher;

pub use backup::{Backup, BackupChunk};
pub use error::{Class, Error};
pub use member::{Member, MemberError};
pub use watcher::{WatchBatch, WatchControl, WatchRequest, WatchUpdate, Watcher};

pub type Result<T> = std::result::Result<T, Error>;

/// An etcd-like store. Shared as `Arc<dyn Store>`; every method may be called from any task at any time.
///
/// A write is durable when its future resolves with `Ok`. When it resolves with an error for which
/// [`Error::is_unknown_outcome`] holds, the write may or may not have happened.
pub trait Store: Send + Sync + 'static {
    /// Reads a key or a range. Linearizable unless `serializable` is set: it sees every write acknowledged before it was
    /// called, on any replica.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>>;

    /// The same of what is shown through an overlay: as if its keys were where they are shown.
    fn range_through(&self, request: RangeRequest, overlay: Overlay) -> BoxFuture<'_, Result<RangeResponse>>;

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>>;

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>>;

    /// One atomic transaction. Large ones are welcome here (the bound is the backend's, thousands of operations); etcd's
    /// limit of 128 is applied only to callers over the network.
    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>>;

    /// Forgets history below `revision`; returns the store's revision.
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<i64>>;

    /// Starts a watch. It delivers every event of the range from `start_revision` on, in order and exactly once, first from
    /// history, then live without a gap. Dropping the [`Watcher`] ends it.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>>;

    /// Grants a lease of `ttl` seconds; `id` 0 lets the store choose.
    fn lease_grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>>;

    /// Ends a lease and deletes its keys; returns the store's revision.
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>>;

    /// Starts the lease's time to live again and returns it, in seconds.
    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>>;

    /// How long a lease still lives; with its keys if asked for.
    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>>;

    /// All leases, the one that ends first first.
    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>>;

    fn status(&self) -> BoxFuture<'_, Result<Status>>;

    /// The alarms that are raised. Linearizable if asked for, else as this replica knows them.
    fn alarms(&self, _linearizable: bool) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        not_served("alarms")
    }

    /// Raises or disarms an alarm and returns it; `None` when there was none to disarm. While there is one of
    /// [`mesh_store_mvcc::AlarmKind::NoSpace`], what makes the store larger is refused.
    fn set_alarm(&self, _action: AlarmAction, _alarm: Alarm) -> BoxFuture<'_, Result<Option<Alarm>>> {
        not_served("setting alarms")
    }

    /// etcd's hash of this replica's history up to a revision, 0 for all of it.
    fn hash_kv(&self, _revision: i64) -> BoxFuture<'_, Result<HashKv>> {
        not_served("HashKV")
    }

    /// All replicas, in order of their ids. Linearizable if asked for, else as this replica knows them.
    fn members(&self, linearizable: bool) -> BoxFuture<'_, Result<Vec<Member>>>;

    /// Adds a replica as a learner and returns it; the new replica is then started to join. Unless the member is to stay
    /// a learner, it is promoted by the store when it has caught up, so a slow newcomer never costs the quorum.
    fn member_add(&self, member: Member) -> BoxFuture<'_, Result<Member>>;

    /// Removes a replica and returns those that are left. Its data must be deleted before it may be added again.
    fn member_remove(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>>;

    /// Gives a learner its vote and returns all members. Refused while it is behind.
    fn member_promote(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>>;

    /// Changes where a replica is reached by the others.
    fn member_update(&self, id: u64, peer_urls: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>>;

    /// Hands leadership to another voter and returns when that one leads.
    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<()>>;

    /// The whole store as of now, to be kept elsewhere.
    fn backup(&self) -> BoxFuture<'_, Result<Backup>> {
        not_served("a backup")
    }

    /// Who answers: what goes into the header of every etcd response, but for the revision.
    fn identity(&self) -> Identity;

    /// The newest revision that this replica has applied.
    fn revision(&self) -> i64;

    /// Who leads the store, as last heard: another replica may lead already. Cheap, and never waits.
    fn leadership(&self) -> Leadership;

    /// The store's own number: never 0, the same on all replicas, and the same for the life of the data. A client that
    /// sees it change must forget what it read.
    fn cluster_id(&self) -> u64 {
        self.identity().cluster_id
    }
}

fn not_served<T: Send + 'static>(what: &'static str) -> BoxFuture<'static, Result<T>> {
    Box::pin(std::future::ready(Err(Error::NotServed { what })))
}

/// Where the leader of a store is, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This process is the replica that leads.
    Here,
    Elsewhere,
    /// There is none, or none is heard of.
    Nowhere,
    /// The store's replicas are other processes, and find one among themselves.
    Outside,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub raft_term: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    pub id: LeaseId,
    /// Seconds left, rounded down; -1 when there is no such lease.
    pub ttl: i64,
    /// Seconds granted; 0 when there is no such lease.
    pub granted_ttl: i64,
    pub keys: Vec<bytes::Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub revision: i64,
    pub compact_revision: i64,
    /// 0 while there is none, or none that this replica hears of.
    pub leader: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    /// Bytes on disk.
    pub db_size: u64,
    /// Bytes of all kept versions.
    pub db_size_in_use: u64,
    /// The bytes in use at which what makes the store larger is refused.
    pub db_size_quota: u64,
    pub keys: u64,
    pub is_learner: bool,
}
