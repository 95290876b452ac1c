//! A store as the holder of a singleton role sees it: every write is refused once the role has another holder.
//!
//! A holder that was paused, or that a partition cut off, still believes that it holds its role. Its writes carry a
//! condition on the key of the role, so that they are refused by the log itself, whoever believes what. Reads and leases
//! are not fenced: they change nothing that the next holder leans on.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store_mvcc::{
    Alarm, AlarmAction, Compare, DeleteRangeRequest, DeleteRangeResponse, HashKv, LeaseGranted, LeaseId, Overlay,
    PutRequest, PutResponse, RangeRequest, RangeResponse, TxnOp, TxnOpResponse, TxnRequest, TxnResponse,
};

use crate::backend::{
    Backup, Error, Identity, Leadership, LeaseTimeToLive, Member, Result, Status, Store, WatchRequest, Watcher,
};

/// Refuses writes with [`Error::Fenced`] unless `key` is still the one that was created at `create_revision`.
pub struct Fenced {
    inner: Arc<dyn Store>,
    key: Bytes,
    create_revision: i64,
}

impl Fenced {
    pub fn new(inner: Arc<dyn Store>, key: impl Into<Bytes>, create_revision: i64) -> Self {
        Self { inner, key: key.into(), create_revision }
    }

    /// Executes one operation if the role is still held.
    async fn guarded(&self, op: TxnOp) -> Result<TxnOpResponse> {
        let compare = vec![Compare::create_revision(self.key.clone(), self.create_revision)];
        let request = TxnRequest { compare, success: vec![op], failure: Vec::new() };
        let response = self.inner.txn(request).await?;
        if !response.succeeded {
            return Err(Error::Fenced { role: String::from_utf8_lossy(&self.key).into_owned() });
        }
        response.responses.into_iter().next().ok_or_else(|| unexpected("nothing"))
    }
}

fn unexpected(found: &str) -> Error {
    Error::Failed { reason: format!("a transaction of one operation was answered with {found}") }
}

impl Store for Fenced {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        self.inner.range(request)
    }

    fn range_through(&self, request: RangeRequest, overlay: Overlay) -> BoxFuture<'_, Result<RangeResponse>> {
        self.inner.range_through(request, overlay)
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        async move {
            match self.guarded(TxnOp::Put(request)).await? {
                TxnOpResponse::Put(response) => Ok(response),
                other => Err(unexpected(&format!("{other:?}"))),
            }
        }
        .boxed()
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        async move {
            match self.guarded(TxnOp::DeleteRange(request)).await? {
                TxnOpResponse::DeleteRange(response) => Ok(response),
                other => Err(unexpected(&format!("{other:?}"))),
            }
        }
        .boxed()
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        async move {
            match self.guarded(TxnOp::Txn(request)).await? {
                TxnOpResponse::Txn(response) => Ok(response),
                other => Err(unexpected(&format!("{other:?}"))),
            }
        }
        .boxed()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<i64>> {
        self.inner.compact(revision)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>> {
        self.inner.watch(request)
    }

    fn lease_grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>> {
        self.inner.lease_grant(id, ttl)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        self.inner.lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        self.inner.lease_keep_alive(id)
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>> {
        self.inner.lease_time_to_live(id, keys)
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        self.inner.lease_list()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        self.inner.status()
    }

    fn alarms(&self, linearizable: bool) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        self.inner.alarms(linearizable)
    }

    fn set_alarm(&self, action: AlarmAction, alarm: Alarm) -> BoxFuture<'_, Result<Option<Alarm>>> {
        self.inner.set_alarm(action, alarm)
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv>> {
        self.inner.hash_kv(revision)
    }

    fn backup(&self) -> BoxFuture<'_, Result<Backup>> {
        self.inner.backup()
    }

    fn members(&self, linearizable: bool) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.inner.members(linearizable)
    }

    fn member_add(&self, member: Member) -> BoxFuture<'_, Result<Member>> {
        self.inner.member_add(member)
    }

    fn member_remove(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.inner.member_remove(id)
    }

    fn member_promote(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.inner.member_promote(id)
    }

    fn member_update(&self, id: u64, peer_urls: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.inner.member_update(id, peer_urls)
    }

    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<()>> {
        self.inner.move_leader(to)
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn revision(&self) -> i64 {
        self.inner.revision()
    }

    fn leadership(&self) -> Leadership {
        self.inner.leadership()
    }
}
