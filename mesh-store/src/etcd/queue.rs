//! etcd's recipe for taking turns, as its Go package `client/v3/concurrency` defines it: everyone puts a key of its own,
//! bound to its lease, under one prefix; whose key was created first has the turn, and everyone waits for all older keys
//! to go.
//!
//! It owns that recipe for [`super::lock`] and [`super::election`]. It must never decide who may take part: callers check.

use std::sync::Arc;

use bytes::Bytes;
use mesh_store_mvcc::{
    Compare, DeleteRangeRequest, EventKind, KeyRange, KeyValue, LeaseId, PutRequest, RangeRequest, SortOrder,
    SortTarget, TxnOp, TxnOpResponse, TxnRequest,
};
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::status;
use crate::backend::{Store, WatchRequest, WatchUpdate};

/// The lease that etcd grants to who brings none, in seconds.
const SESSION_TTL: i64 = 60;

/// One queue: everything below `name/`.
pub(super) struct Queue<'a> {
    store: &'a Arc<dyn Store>,
    prefix: Bytes,
}

/// A place in a queue, before its turn.
pub(super) struct Place {
    pub(super) key: Bytes,
    /// The key's create revision: the place's number.
    pub(super) revision: i64,
    /// The store's revision when the place was taken or found.
    pub(super) seen: i64,
    /// The key's value, when it was there before: the same lease had queued already.
    pub(super) found: Option<Bytes>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(store: &'a Arc<dyn Store>, name: &[u8]) -> Self {
        Self { store, prefix: [name, b"/"].concat().into() }
    }

    /// All keys of the queue.
    pub(super) fn range(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// The key of who queues with this lease.
    pub(super) fn key(&self, lease: LeaseId) -> Bytes {
        // Go prints a negative number with its sign, which a two's complement would lose.
        let sign = if lease < 0 { "-" } else { "" };
        let text = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.prefix, text.as_bytes()].concat().into()
    }

    /// Puts the key, or finds the one that is there.
    pub(super) async fn enter(&self, lease: LeaseId, value: Vec<u8>) -> Result<Place, Status> {
        let key = self.key(lease);
        let put = PutRequest { lease, ..PutRequest::new(key.clone(), value) };
        let request = TxnRequest {
            compare: vec![Compare::absent(key.clone())],
            success: vec![TxnOp::Put(put)],
            failure: vec![TxnOp::Range(RangeRequest::get(key.clone()))],
        };
        let response = self.store.txn(request).await.map_err(|error| status::of(&error))?;
        let seen = response.revision;
        let there = response.responses.into_iter().find_map(|response| match response {
            TxnOpResponse::Range(range) => range.kvs.into_iter().next(),
            _ => None,
        });
        Ok(match there {
            Some(kv) => Place { key, revision: kv.create_revision, seen, found: Some(kv.value) },
            None => Place { key, revision: seen, seen, found: None },
        })
    }

    /// Returns when no key older than `revision` is left; the revision at which that was so.
    pub(super) async fn wait_for_older(&self, revision: i64) -> Result<i64, Status> {
        loop {
            let request = RangeRequest {
                limit: 1,
                sort_order: SortOrder::Descend,
                sort_target: SortTarget::Create,
                max_create_revision: revision - 1,
                ..RangeRequest::prefix(self.prefix.clone())
            };
            let older = self.store.range(request).await.map_err(|error| status::of(&error))?;
            let Some(kv) = older.kvs.into_iter().next() else { return Ok(older.revision) };
            self.wait_for_delete(kv.key, older.revision + 1).await?;
        }
    }

    async fn wait_for_delete(&self, key: Bytes, start_revision: i64) -> Result<(), Status> {
        let request = WatchRequest { range: KeyRange::single(key), start_revision, ..WatchRequest::default() };
        let mut watcher = self.store.watch(request).await.map_err(|error| status::of(&error))?;
        loop {
            match watcher.next().await {
                Some(WatchUpdate::Events(batch)) => {
                    if batch.events.iter().any(|event| event.kind == EventKind::Delete) {
                        return Ok(());
                    }
                }
                Some(WatchUpdate::Progress { .. }) => {}
                // Whether the key is still there is asked again.
                Some(WatchUpdate::Compacted { .. }) => return Ok(()),
                None => return Err(Status::unavailable("etcdserver: server stopped")),
            }
        }
    }

    /// Who has the turn, and the store's revision.
    pub(super) async fn first(&self) -> Result<(Option<KeyValue>, i64), Status> {
        let request = RangeRequest {
            limit: 1,
            sort_order: SortOrder::Ascend,
            sort_target: SortTarget::Create,
            ..RangeRequest::prefix(self.prefix.clone())
        };
        let response = self.store.range(request).await.map_err(|error| status::of(&error))?;
        Ok((response.kvs.into_iter().next(), response.revision))
    }
}

/// The lease to queue with: the caller's, or a new one that ends by itself when nobody renews it.
pub(super) async fn session(store: &Arc<dyn Store>, lease: LeaseId) -> Result<LeaseId, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    let granted = store.lease_grant(0, SESSION_TTL).await.map_err(|error| status::of(&error))?;
    Ok(granted.id)
}

/// Gives the place back when its owner goes away (or fails) before its turn: nobody shall wait for who has left.
pub(super) struct Leaving {
    store: Arc<dyn Store>,
    key: Bytes,
    revision: i64,
    tasks: TaskTracker,
    stays: bool,
}

impl Leaving {
    pub(super) fn unless_first(store: &Arc<dyn Store>, place: &Place, tasks: &TaskTracker) -> Self {
        Self {
            store: Arc::clone(store),
            key: place.key.clone(),
            revision: place.revision,
            tasks: tasks.clone(),
            stays: false,
        }
    }

    /// It is this place's turn.
    pub(super) fn stay(mut self) {
        self.stays = true;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let store = Arc::clone(&self.store);
        let request = TxnRequest {
            compare: vec![Compare::create_revision(self.key.clone(), self.revision)],
            success: vec![TxnOp::DeleteRange(DeleteRangeRequest::key(self.key.clone()))],
            failure: vec![],
        };
        self.tasks.spawn(async move {
            if let Err(error) = store.txn(request).await {
                tracing::debug!(%error, "a place in a queue stays until its lease ends");
            }
        });
    }
}
