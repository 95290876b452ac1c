//! The store of a mock cluster: etcd's semantics from `mesh-store-mvcc`, in memory, without a log. It can stop answering, and
//! tell its past again, as no honest store does.
//!
//! Written by its cluster alone; what only replicas and leases need is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store::backend::{
    Error, Identity, Leadership, LeaseTimeToLive, Member, Result, Status, Store, WatchRequest, Watcher,
};
use mesh_store::mvcc::{
    Command, DeleteRangeRequest, DeleteRangeResponse, LeaseGranted, LeaseId, Overlay, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Response, State, TxnOp, TxnRequest, TxnResponse,
};
use parking_lot::RwLock;
use tokio::sync::watch;

/// History is forgotten in steps of so many revisions, and so many are kept: a peer that was away for a while resumes.
const KEPT_REVISIONS: i64 = 10_000;

#[derive(Clone)]
pub struct MockStore(Arc<Inner>);

pub(super) struct Inner {
    pub(super) state: RwLock<State>,
    /// The newest revision: wakes watches.
    pub(super) revision: watch::Sender<i64>,
    /// While true nothing is answered, and nobody is told.
    pub(super) stalled: watch::Sender<bool>,
    /// Watches tell everything again with each change.
    pub(super) replays: AtomicBool,
    cluster_id: u64,
}

impl MockStore {
    /// `cluster_id`: the store's own number, not 0.
    pub fn new(cluster_id: u64) -> Self {
        let state = State::default();
        let revision = watch::Sender::new(state.revision());
        Self(Arc::new(Inner {
            state: RwLock::new(state),
            revision,
            stalled: watch::Sender::new(false),
            replays: AtomicBool::new(false),
            cluster_id,
        }))
    }

    /// Writes puts as one revision.
    pub fn write(&self, facts: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let success = facts.into_iter().map(|(key, value)| TxnOp::Put(PutRequest::new(key, value))).collect();
        let request = TxnRequest { success, ..TxnRequest::default() };
        self.0.apply(&Command::Txn(request)).expect("puts without conditions are never refused");
    }

    pub fn set_stalled(&self, is_stalled: bool) {
        self.0.stalled.send_replace(is_stalled);
    }

    pub fn set_replays(&self, replays: bool) {
        self.0.replays.store(replays, Ordering::Relaxed);
    }
}

impl Inner {
    fn apply(&self, command: &Command) -> Result<Response> {
        let mut state = self.state.write();
        let applied = state.apply(command);
        let revision = state.revision();
        if revision - state.compact_revision() > 2 * KEPT_REVISIONS {
            state.apply(&Command::Compact { revision: revision - KEPT_REVISIONS }).result.map_err(Error::Refused)?;
        }
        drop(state);
        self.revision.send_replace(revision);
        applied.result.map_err(Error::Refused)
    }

    /// Returns at once unless the store is stalled.
    pub(super) async fn until_it_answers(&self) {
        // The sender lives as long as this, so waiting cannot fail.
        self.stalled.subscribe().wait_for(|is_stalled| !is_stalled).await.ok();
    }
}

fn refused<T: Send + 'static>(what: &'static str) -> BoxFuture<'static, Result<T>> {
    std::future::ready(Err(Error::NotServed { what })).boxed()
}

/// The answer of the kind that belongs to the command, which is what `apply` gives.
macro_rules! applied {
    ($self:ident, $kind:ident($request:ident)) => {
        async move {
            match $self.0.apply(&Command::$kind($request))? {
                Response::$kind(response) => Ok(response),
                other => Err(Error::Failed { reason: format!("answered with {other:?}") }),
            }
        }
        .boxed()
    };
}

impl Store for MockStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            self.0.until_it_answers().await;
            self.0.state.read().range(&request).map_err(Error::Refused)
        }
        .boxed()
    }

    fn range_through(&self, request: RangeRequest, overlay: Overlay) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            self.0.until_it_answers().await;
            self.0.state.read().range_through(&request, &overlay).map_err(Error::Refused)
        }
        .boxed()
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        applied!(self, Put(request))
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        applied!(self, DeleteRange(request))
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        applied!(self, Txn(request))
    }

    fn compact(&self, _revision: i64) -> BoxFuture<'_, Result<i64>> {
        refused("compaction by a client")
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>> {
        let inner = Arc::clone(&self.0);
        async move {
            inner.until_it_answers().await;
            Ok(super::watch::start(inner, request))
        }
        .boxed()
    }

    fn lease_grant(&self, _id: LeaseId, _ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>> {
        refused("a lease")
    }

    fn lease_revoke(&self, _id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        refused("a lease")
    }

    fn lease_keep_alive(&self, _id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        refused("a lease")
    }

    fn lease_time_to_live(&self, _id: LeaseId, _keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>> {
        refused("a lease")
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        let state = self.0.state.read();
        let status = Status {
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            leader: self.0.cluster_id,
            keys: state.key_count() as u64,
            ..Status::default()
        };
        std::future::ready(Ok(status)).boxed()
    }

    fn members(&self, _linearizable: bool) -> BoxFuture<'_, Result<Vec<Member>>> {
        refused("a list of members")
    }

    fn member_add(&self, _member: Member) -> BoxFuture<'_, Result<Member>> {
        refused("a change of members")
    }

    fn member_remove(&self, _id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        refused("a change of members")
    }

    fn member_promote(&self, _id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        refused("a change of members")
    }

    fn member_update(&self, _id: u64, _peer_urls: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        refused("a change of members")
    }

    fn move_leader(&self, _to: u64) -> BoxFuture<'_, Result<()>> {
        refused("a change of leader")
    }

    fn identity(&self) -> Identity {
        Identity { cluster_id: self.0.cluster_id, member_id: self.0.cluster_id, raft_term: 1 }
    }

    fn revision(&self) -> i64 {
        self.0.state.read().revision()
    }

    fn leadership(&self) -> Leadership {
        Leadership::Here
    }
}
