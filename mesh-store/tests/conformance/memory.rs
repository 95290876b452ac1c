//! The contract of `Store` and nothing else: the pure state behind a lock. For tests; it forgets everything at its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use futures::stream::{self, StreamExt as _};
use mesh_store::Store;
use mesh_store::backend::{
    Backup, BackupChunk, Error, Identity, Leadership, LeaseTimeToLive, Member, MemberError, Result, Status, WatchBatch,
    WatchControl, WatchRequest, WatchUpdate, Watcher,
};
use mesh_store::mvcc::{
    Alarm, AlarmAction, Command, DeleteRangeRequest, DeleteRangeResponse, Error as Refusal, Event, HashKv, Hashing,
    KeyRange, LeaseGranted, LeaseId, Overlay, PutRequest, PutResponse, RangeRequest, RangeResponse, Response, State,
    TxnRequest, TxnResponse,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
const LOOK_FOR_EXPIRED: Duration = Duration::from_millis(50);

pub(super) struct Memory(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    /// Revision and compaction, sent when either has moved.
    moved: watch::Sender<(i64, i64)>,
}

#[derive(Default)]
struct Inner {
    state: State,
    ends: HashMap<LeaseId, Instant>,
}

impl Memory {
    pub(super) fn open() -> Arc<Self> {
        let shared = Arc::new(Shared { inner: Mutex::default(), moved: watch::Sender::new((1, 0)) });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some(shared) = weak.upgrade() {
                shared.expire();
                drop(shared);
                tokio::time::sleep(LOOK_FOR_EXPIRED).await;
            }
        });
        Arc::new(Self(shared))
    }

    fn lease_left(&self, id: LeaseId, keys: bool) -> LeaseTimeToLive {
        let inner = self.0.inner.lock();
        let Some(granted_ttl) = inner.state.lease_ttl(id) else {
            return LeaseTimeToLive { id, ttl: -1, ..LeaseTimeToLive::default() };
        };
        let left = inner.ends[&id].saturating_duration_since(Instant::now());
        let keys = if keys { inner.state.lease_keys(id).unwrap() } else { Vec::new() };
        LeaseTimeToLive { id, ttl: left.as_secs().try_into().unwrap(), granted_ttl, keys }
    }
}

impl Shared {
    fn expire(&self) {
        let now = Instant::now();
        let over: Vec<LeaseId> =
            self.inner.lock().ends.iter().filter(|(_, end)| **end <= now).map(|(id, _)| *id).collect();
        for id in over {
            // Somebody may have revoked it meanwhile.
            drop(self.apply(Command::LeaseRevoke { id }));
        }
    }

    fn apply(&self, command: Command) -> Result<Response> {
        let mut inner = self.inner.lock();
        let revoked = if let Command::LeaseRevoke { id } = &command { Some(*id) } else { None };
        let response = inner.state.apply(command).result?;
        if let Response::LeaseGrant(granted) = &response {
            inner.ends.insert(granted.id, Instant::now() + Duration::from_secs(granted.ttl.unsigned_abs()));
        }
        if let Some(id) = revoked {
            inner.ends.remove(&id);
        }
        let now = (inner.state.revision(), inner.state.compact_revision());
        drop(inner);
        self.moved.send_if_modified(|last| std::mem::replace(last, now) != now);
        Ok(response)
    }

    fn renew(&self, id: LeaseId) -> Result<i64> {
        let mut inner = self.inner.lock();
        let ttl = inner.state.lease_ttl(id).ok_or(Refusal::LeaseNotFound)?;
        inner.ends.insert(id, Instant::now() + Duration::from_secs(ttl.unsigned_abs()));
        Ok(ttl)
    }
}

/// The answer, of the command's own variant.
macro_rules! answer {
    ($result:expr, $variant:pat => $value:expr) => {
        ready($result.map(|response| match response {
            $variant => $value,
            other => panic!("the answer to another command: {other:?}"),
        }))
        .boxed()
    };
}

impl Store for Memory {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        ready(self.0.inner.lock().state.range(&request).map_err(Error::from)).boxed()
    }

    fn range_through(&self, request: RangeRequest, overlay: Overlay) -> BoxFuture<'_, Result<RangeResponse>> {
        ready(self.0.inner.lock().state.range_through(&request, &overlay).map_err(Error::from)).boxed()
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        let checked = request.check().map_err(Error::from);
        answer!(checked.and_then(|()| self.0.apply(Command::Put(request))), Response::Put(put) => put)
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        answer!(self.0.apply(Command::DeleteRange(request)), Response::DeleteRange(deleted) => deleted)
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        let checked = request.check(usize::MAX).map_err(Error::from);
        answer!(checked.and_then(|()| self.0.apply(Command::Txn(request))), Response::Txn(txn) => txn)
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<i64>> {
        answer!(self.0.apply(Command::Compact { revision }), Response::Compact { revision } => revision)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>> {
        let current = self.revision();
        let asked = Arc::new(Notify::new());
        let bell = Arc::clone(&asked);
        let control = WatchControl::new(move || bell.notify_one());
        let watch = Watch {
            moved: self.0.moved.subscribe(),
            shared: Arc::clone(&self.0),
            range: request.range,
            overlay: request.overlay,
            next: if request.start_revision > 0 { request.start_revision } else { current + 1 },
            asked,
            interval: request.progress_interval.unwrap_or(PROGRESS_INTERVAL),
        };
        let updates = stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            let update = watch.update().await;
            let ended = matches!(update, WatchUpdate::Compacted { .. });
            Some((update, (!ended).then_some(watch)))
        });
        ready(Ok(Watcher::new(current, control, updates.boxed()))).boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>> {
        answer!(self.0.apply(Command::LeaseGrant { id, ttl }), Response::LeaseGrant(granted) => granted)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        answer!(self.0.apply(Command::LeaseRevoke { id }), Response::LeaseRevoke { revision } => revision)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        ready(self.0.renew(id)).boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>> {
        ready(Ok(self.lease_left(id, keys))).boxed()
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        ready(Ok(self.0.inner.lock().state.leases().map(|(id, _)| id).collect())).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        let inner = self.0.inner.lock();
        let status = Status {
            revision: inner.state.revision(),
            compact_revision: inner.state.compact_revision(),
            leader: 1,
            keys: inner.state.key_count() as u64,
            ..Status::default()
        };
        drop(inner);
        ready(Ok(status)).boxed()
    }

    fn members(&self, _: bool) -> BoxFuture<'_, Result<Vec<Member>>> {
        ready(Ok(vec![Member { id: 1, ..Member::default() }])).boxed()
    }

    fn member_add(&self, _: Member) -> BoxFuture<'_, Result<Member>> {
        ready(Err(MemberError::Alone.into())).boxed()
    }

    fn member_remove(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        ready(Err(if id == 1 { MemberError::NotEnoughStarted } else { MemberError::NotFound }.into())).boxed()
    }

    fn member_promote(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        ready(Err(if id == 1 { MemberError::NotLearner } else { MemberError::NotFound }.into())).boxed()
    }

    fn member_update(&self, id: u64, _: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        ready(Err(if id == 1 { MemberError::Alone } else { MemberError::NotFound }.into())).boxed()
    }

    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<()>> {
        ready(if to == 1 { Ok(()) } else { Err(MemberError::BadTransferee.into()) }).boxed()
    }

    fn alarms(&self, _: bool) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        ready(Ok(self.0.inner.lock().state.alarms().collect())).boxed()
    }

    fn set_alarm(&self, action: AlarmAction, alarm: Alarm) -> BoxFuture<'_, Result<Option<Alarm>>> {
        answer!(self.0.apply(Command::Alarm { action, alarm }), Response::Alarm { alarm, .. } => alarm)
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv>> {
        let hashing = self.0.inner.lock().state.hash_kv(revision).map_err(Error::from);
        ready(hashing.map(Hashing::finish)).boxed()
    }

    fn backup(&self) -> BoxFuture<'_, Result<Backup>> {
        let data = postcard::to_stdvec(&self.0.inner.lock().state.image()).unwrap();
        let chunk = BackupChunk { data: data.into(), remaining: 0 };
        ready(Ok(Backup { chunks: stream::iter([Ok(chunk)]).boxed() })).boxed()
    }

    fn identity(&self) -> Identity {
        Identity { cluster_id: 1, member_id: 1, raft_term: 1 }
    }

    fn revision(&self) -> i64 {
        self.0.inner.lock().state.revision()
    }

    fn leadership(&self) -> Leadership {
        Leadership::Outside
    }
}

struct Watch {
    shared: Arc<Shared>,
    moved: watch::Receiver<(i64, i64)>,
    range: KeyRange,
    overlay: Option<Overlay>,
    /// Everything below has been delivered.
    next: i64,
    asked: Arc<Notify>,
    interval: Duration,
}

impl Watch {
    async fn update(&mut self) -> WatchUpdate {
        loop {
            let (revision, _) = *self.moved.borrow_and_update();
            if let Some(update) = self.look(revision) {
                return update;
            }
            tokio::select! {
                // The sender lives as long as `shared` does.
                moved = self.moved.changed() => moved.unwrap(),
                () = self.asked.notified() => if self.next <= revision + 1 { return WatchUpdate::Progress { revision } },
                () = tokio::time::sleep(self.interval) => if self.next <= revision + 1 {
                    return WatchUpdate::Progress { revision };
                },
            }
        }
    }

    fn look(&mut self, revision: i64) -> Option<WatchUpdate> {
        if self.next > revision {
            return None;
        }
        let inner = self.shared.inner.lock();
        let Ok(history) = inner.state.history_since(self.next) else {
            return Some(WatchUpdate::Compacted { compact_revision: inner.state.compact_revision() });
        };
        let events: Vec<Event> = history
            .flat_map(|changes| match &self.overlay {
                Some(overlay) => changes.events_through(&self.range, overlay),
                None => changes.events_in(&self.range).collect(),
            })
            .filter(|event| event.kv.mod_revision <= revision)
            .collect();
        drop(inner);
        self.next = revision + 1;
        (!events.is_empty()).then_some(WatchUpdate::Events(WatchBatch { revision, events }))
    }
}
