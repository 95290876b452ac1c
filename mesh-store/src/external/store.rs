//! [`Store`] by asking etcd.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::{LeaseGrantOptions, LeaseTimeToLiveOptions};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store_mvcc::{
    Alarm, AlarmAction, DeleteRangeRequest, DeleteRangeResponse, Error as Refusal, HashKv, KeyRange, LeaseGranted,
    LeaseId, Overlay, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnOp, TxnRequest, TxnResponse,
};

use super::{External, convert, errors};
use crate::backend::{
    Backup, Class, Error, Identity, Leadership, LeaseTimeToLive, Member, Result, Status, Store, WatchRequest, Watcher,
};

/// etcd itself gives up after 7 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Reads are tried again for so long, on other members too: a member that is killed costs its callers no error.
pub(super) const RETRY_READS: Duration = Duration::from_secs(5);
/// And what no member has got.
const RETRY_UNSENT: Duration = Duration::from_secs(5);
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl External {
    /// A change: tried again only while it is certain that no member has got it.
    async fn write<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let deadline = tokio::time::Instant::now() + RETRY_UNSENT;
        loop {
            // The client picks a member by itself, now and then one that is down.
            let call = call().map(|answer| match answer {
                Err(error) if errors::was_never_sent(&error) => Ok(Err(error)),
                answer => answer.map(Ok),
            });
            match self.ask(call).await? {
                Ok(answer) => return Ok(answer),
                Err(error) if tokio::time::Instant::now() > deadline => {
                    return Err(errors::of(&error, &self.endpoints));
                }
                Err(error) => {
                    tracing::debug!(%error, "a write goes to another member");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// One call. After an error a write may have happened all the same.
    pub(super) async fn ask<T>(
        &self,
        call: impl Future<Output = std::result::Result<T, etcd_client::Error>>,
    ) -> Result<T> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Error::Stopped),
            answer = tokio::time::timeout(ANSWER_WITHIN, call) => {
                let answer = answer.map_err(|_elapsed| Error::TimedOut)?;
                answer.map_err(|error| errors::of(&error, &self.endpoints))
            }
        }
    }

    /// A call that changes nothing.
    pub(super) async fn read<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let deadline = tokio::time::Instant::now() + RETRY_READS;
        loop {
            match self.ask(call()).await {
                Err(error) if error.class() == Class::Retryable && tokio::time::Instant::now() < deadline => {
                    tracing::debug!(%error, "a read is tried again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// The revision of everything that was acknowledged before the call.
    pub(super) async fn current_revision(&self) -> Result<i64> {
        let request = RangeRequest { count_only: true, ..RangeRequest::get("\0") };
        Ok(self.range(request).await?.revision)
    }

    /// etcd says that history is gone, but not from where on.
    pub(super) async fn with_compact_revision(&self, error: Error) -> Error {
        match error {
            Error::Refused(Refusal::Compacted { .. }) => match self.compact_revision().await {
                Ok(compact_revision) => Error::Refused(Refusal::Compacted { compact_revision }),
                Err(error) => error,
            },
            other => other,
        }
    }
}

/// True when a transaction has no operation that makes etcd ask the others before it answers: one that only compares is
/// answered from what the member has applied, which may be old.
fn reads_locally(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match op {
        TxnOp::Range(range) => range.serializable,
        TxnOp::Txn(inner) => reads_locally(inner),
        TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
    })
}

/// The same with one such operation at the end of both branches.
fn with_read(mut request: TxnRequest) -> TxnRequest {
    let read = RangeRequest { count_only: true, ..RangeRequest::get("\0") };
    request.success.push(TxnOp::Range(read.clone()));
    request.failure.push(TxnOp::Range(read));
    request
}

impl Store for External {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            let call = || {
                let (key, options) = convert::range(request.clone());
                let mut kv = self.kv.clone();
                async move { kv.get(key, Some(options)).await }
            };
            match self.read(call).await {
                Ok(response) => {
                    self.seen.note(response.0.header.as_ref());
                    Ok(convert::range_response(response.0))
                }
                Err(error) => Err(self.with_compact_revision(error).await),
            }
        }
        .boxed()
    }

    fn range_through(&self, request: RangeRequest, overlay: Overlay) -> BoxFuture<'_, Result<RangeResponse>> {
        async move { self.range_overlaid(request, &overlay).await }.boxed()
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        async move {
            let call = || {
                let (key, value, options) = convert::put(request.clone());
                let mut kv = self.kv.clone();
                async move { kv.put(key, value, Some(options)).await }
            };
            let response = self.write(call).await?;
            self.seen.note(response.0.header.as_ref());
            Ok(convert::put_response(response.0))
        }
        .boxed()
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        async move {
            let call = || {
                let (key, options) = convert::delete_range(request.clone());
                let mut kv = self.kv.clone();
                async move { kv.delete(key, Some(options)).await }
            };
            let response = self.write(call).await?;
            self.seen.note(response.0.header.as_ref());
            Ok(convert::delete_response(response.0))
        }
        .boxed()
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        async move {
            let is_local = reads_locally(&request);
            let request = if is_local { with_read(request) } else { request };
            let call = || {
                let txn = convert::txn(request.clone());
                let mut kv = self.kv.clone();
                async move { kv.txn(txn).await }
            };
            match self.write(call).await {
                Ok(response) => {
                    self.seen.note(response.0.header.as_ref());
                    let mut response = convert::txn_response(response.0);
                    if is_local {
                        response.responses.pop();
                    }
                    Ok(response)
                }
                Err(error) => Err(self.with_compact_revision(error).await),
            }
        }
        .boxed()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<i64>> {
        async move {
            let call = || {
                let mut kv = self.kv.clone();
                async move { kv.compact(revision, None).await }
            };
            match self.write(call).await {
                Ok(response) => Ok(self.seen.note(response.0.header.as_ref())),
                Err(error) => Err(self.with_compact_revision(error).await),
            }
        }
        .boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>> {
        async move {
            if self.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            self.start_watch(request).await
        }
        .boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>> {
        async move {
            let call = || {
                let mut lease = self.lease.clone();
                async move { lease.grant(ttl, Some(LeaseGrantOptions::new().with_id(id))).await }
            };
            let response = self.write(call).await?.0;
            let revision = self.seen.note(response.header.as_ref());
            Ok(LeaseGranted { revision, id: response.id, ttl: response.ttl })
        }
        .boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        async move {
            let call = || {
                let mut lease = self.lease.clone();
                async move { lease.revoke(id).await }
            };
            let response = self.write(call).await?;
            Ok(self.seen.note(response.0.header.as_ref()))
        }
        .boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        async move {
            // The client's first answer is not shown, but says whether the lease is there; the second has its time.
            let (mut keeper, mut beats) = match self.ask(self.lease.clone().keep_alive(id)).await {
                Ok(kept) => kept,
                Err(Error::External { reason, .. }) if reason.ends_with(errors::NO_SUCH_LEASE) => {
                    return Err(Error::Refused(Refusal::LeaseNotFound));
                }
                Err(error) => return Err(error),
            };
            let beat = async {
                keeper.keep_alive().await?;
                beats.message().await
            };
            let beat = self.ask(beat).await?.map(|beat| beat.0);
            self.seen.note(beat.as_ref().and_then(|beat| beat.header.as_ref()));
            match beat {
                Some(beat) if beat.ttl > 0 => Ok(beat.ttl),
                _ => Err(Error::Refused(Refusal::LeaseNotFound)),
            }
        }
        .boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>> {
        async move {
            let call = || {
                let options = LeaseTimeToLiveOptions::new();
                let options = if keys { options.with_keys() } else { options };
                let mut lease = self.lease.clone();
                async move { lease.time_to_live(id, Some(options)).await }
            };
            let response = self.read(call).await?.0;
            self.seen.note(response.header.as_ref());
            Ok(LeaseTimeToLive {
                id,
                ttl: response.ttl,
                granted_ttl: response.granted_ttl,
                keys: response.keys.into_iter().map(Bytes::from).collect(),
            })
        }
        .boxed()
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        async move {
            let call = || {
                let mut lease = self.lease.clone();
                async move { lease.leases().await }
            };
            let response = self.read(call).await?.0;
            self.seen.note(response.header.as_ref());
            let ids = response.leases.into_iter().map(|lease| lease.id).collect();
            Ok(ids)
        }
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        async move {
            let call = || {
                let mut maintenance = self.maintenance.clone();
                async move { maintenance.status().await }
            };
            let status = self.read(call).await?.0;
            self.seen.note(status.header.as_ref());
            // The member that was asked may be behind; this is as of now.
            let all = RangeRequest { range: KeyRange::all(), count_only: true, ..RangeRequest::default() };
            let RangeResponse { revision, count: keys, .. } = self.range(all).await?;
            Ok(Status {
                revision,
                compact_revision: self.compact_revision().await?,
                leader: status.leader,
                raft_index: status.raft_index,
                raft_applied_index: status.raft_applied_index,
                db_size: u64::try_from(status.db_size).unwrap_or_default(),
                db_size_in_use: u64::try_from(status.db_size_in_use).unwrap_or_default(),
                db_size_quota: u64::try_from(status.db_size_quota).unwrap_or_default(),
                keys: u64::try_from(keys).unwrap_or_default(),
                is_learner: status.is_learner,
            })
        }
        .boxed()
    }

    fn members(&self, _linearizable: bool) -> BoxFuture<'_, Result<Vec<Member>>> {
        // etcd-client has no word for it; etcd answers from what the member that is asked has applied.
        self.list_members()
    }

    fn member_add(&self, member: Member) -> BoxFuture<'_, Result<Member>> {
        self.add_member(member)
    }

    fn member_remove(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.remove_member(id)
    }

    fn member_promote(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.promote_member(id)
    }

    fn member_update(&self, id: u64, peer_urls: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.update_member(id, peer_urls)
    }

    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<()>> {
        async move { self.ask(self.maintenance.clone().move_leader(to)).await.map(drop) }.boxed()
    }

    fn alarms(&self, _linearizable: bool) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        self.list_alarms()
    }

    fn set_alarm(&self, action: AlarmAction, alarm: Alarm) -> BoxFuture<'_, Result<Option<Alarm>>> {
        self.change_alarm(action, alarm)
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv>> {
        self.hash(revision)
    }

    fn backup(&self) -> BoxFuture<'_, Result<Backup>> {
        self.read_snapshot()
    }

    fn identity(&self) -> Identity {
        self.seen.identity()
    }

    fn revision(&self) -> i64 {
        self.seen.revision()
    }

    fn leadership(&self) -> Leadership {
        Leadership::Outside
    }
}
