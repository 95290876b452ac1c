//! Who holds a role, decided in the store: a key with a lease, taken over at once by the replica that leads the store.
//!
//! A role is lost when its key is gone or was made again, and given up when the store could not be reached for as long as
//! the lease lives: from then on another replica may have it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_runtime::{ErrorChain, ReadyGuard};
use mesh_store::Store;
use mesh_store::backend::{Error, Leadership, WatchRequest, WatchUpdate, Watcher};
use mesh_store::mvcc::{Compare, EventKind, KeyValue, LeaseId, PutRequest, RangeRequest, TxnOp, TxnRequest};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How long a role stays with a holder that cannot be reached, in seconds.
const TTL: i64 = 6;
/// Pause before something that failed is tried again, and between looks at who leads the store.
pub(super) const RETRY: Duration = Duration::from_millis(200);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(2);

/// Who holds a role: the value of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The replica's number in its group.
    pub replica: u64,
    /// Where its mesh API listens, for calls that only the holder can answer.
    pub mesh_endpoints: Vec<String>,
}

/// A role that is held.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Of the key: what fences the holder's writes.
    pub create_revision: i64,
    lease: LeaseId,
}

/// One replica's candidacy for one role.
pub struct Election {
    store: Arc<dyn Store>,
    key: Bytes,
    own: Holder,
    seen: watch::Sender<Option<Holder>>,
}

impl Election {
    pub fn new(store: Arc<dyn Store>, key: &'static str, own: Holder) -> Self {
        let seen = watch::channel(None).0;
        Self { store, key: Bytes::from_static(key.as_bytes()), own, seen }
    }

    /// The holder, as this replica last saw it.
    pub fn seen(&self) -> watch::Receiver<Option<Holder>> {
        self.seen.subscribe()
    }

    /// Resolves when the role is this replica's. `ready` is dropped when another one holds it meanwhile.
    pub async fn campaign(&self, ready: &mut Option<ReadyGuard>) -> Result<Held, Error> {
        loop {
            let leader = self.store.leadership();
            let found = self.store.range(RangeRequest::get(self.key.clone())).await?;
            let (revision, kv) = (found.revision, found.kvs.into_iter().next());
            let holder = kv.as_ref().and_then(decode);
            let is_leftover = holder.as_ref().is_none_or(|holder| holder.replica == self.own.replica);
            match kv {
                // The replica that leads the store takes the role; the others stand back for it.
                _ if matches!(leader, Leadership::Elsewhere | Leadership::Nowhere) => {
                    if holder.is_some() {
                        *ready = None;
                    }
                    self.seen.send_replace(holder);
                    self.wait_for_chance(revision).await?;
                }
                None => {
                    if let Some(held) = self.take().await? {
                        return Ok(held);
                    }
                }
                // A former life of this replica cannot be holding it any more.
                Some(kv) if is_leftover || leader == Leadership::Here => self.remove(&kv).await?,
                Some(_) => {
                    *ready = None;
                    self.seen.send_replace(holder);
                    self.wait_for_chance(revision).await?;
                }
            }
        }
    }

    /// Resolves when the role is no longer this replica's, with the reason.
    pub async fn lost(&self, held: &Held) -> String {
        tokio::select! {
            reason = self.renew(held) => reason,
            reason = self.follow(held) => reason,
        }
    }

    /// Whether the store says so. An answer that cannot be had is a no.
    pub async fn is_held(&self, held: &Held) -> bool {
        let found = self.store.range(RangeRequest::get(self.key.clone())).await;
        found.is_ok_and(|found| found.kvs.first().is_some_and(|kv| kv.create_revision == held.create_revision))
    }

    /// Gives the role up, so that another replica need not wait for the lease to end.
    pub async fn resign(&self, held: &Held) {
        if let Err(error) = self.store.lease_revoke(held.lease).await {
            tracing::debug!(error = %ErrorChain(&error), "the lease of the role ends by itself");
        }
    }

    /// Makes the key, if there is none.
    async fn take(&self) -> Result<Option<Held>, Error> {
        let lease = self.store.lease_grant(0, TTL).await?.id;
        let value = serde_json::to_vec(&self.own).map_err(|error| Error::Failed { reason: error.to_string() })?;
        let put = PutRequest { lease, ..PutRequest::new(self.key.clone(), value) };
        let request = TxnRequest {
            compare: vec![Compare::absent(self.key.clone())],
            success: vec![TxnOp::Put(put)],
            failure: Vec::new(),
        };
        let response = self.store.txn(request).await?;
        let held = Held { create_revision: response.revision, lease };
        if response.succeeded {
            self.seen.send_replace(Some(self.own.clone()));
            return Ok(Some(held));
        }
        self.resign(&held).await;
        Ok(None)
    }

    /// Removes the key as it was seen; another one that was made since stays.
    async fn remove(&self, kv: &KeyValue) -> Result<(), Error> {
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(self.key.clone(), kv.mod_revision)],
            success: vec![TxnOp::DeleteRange(mesh_store::mvcc::DeleteRangeRequest::key(self.key.clone()))],
            failure: Vec::new(),
        };
        self.store.txn(request).await?;
        Ok(())
    }

    /// Until the key changes after `revision`, or this replica leads the store.
    async fn wait_for_chance(&self, revision: i64) -> Result<(), Error> {
        let mut changes = self.changes(revision + 1).await?;
        let mut look = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                update = changes.next() => match update {
                    Some(WatchUpdate::Progress { .. }) => {}
                    Some(WatchUpdate::Events(_) | WatchUpdate::Compacted { .. }) | None => return Ok(()),
                },
                _ = look.tick() => if self.store.leadership() == Leadership::Here {
                    return Ok(());
                },
            }
        }
    }

    async fn renew(&self, held: &Held) -> String {
        let mut renewed = Instant::now();
        loop {
            let asked = Instant::now();
            match self.store.lease_keep_alive(held.lease).await {
                Ok(ttl) if ttl > 0 => {
                    renewed = asked;
                    tokio::time::sleep(RENEW).await;
                    continue;
                }
                Ok(_) | Err(Error::Refused(_)) => return "its lease ended".to_owned(),
                Err(error) => {
                    if renewed.elapsed() >= Duration::from_secs(TTL.unsigned_abs()) {
                        return format!("its lease could not be renewed for {TTL} s: {}", ErrorChain(&error));
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&self, held: &Held) -> String {
        loop {
            let mut changes = match self.changes(held.create_revision + 1).await {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::debug!(error = %ErrorChain(&error), "the role's key cannot be followed now");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            while let Some(update) = changes.next().await {
                match update {
                    WatchUpdate::Events(batch) => {
                        let news = batch.events.iter().find(|event| {
                            event.kind == EventKind::Delete || event.kv.create_revision != held.create_revision
                        });
                        if news.is_some() {
                            return "another replica took it, or its lease ended".to_owned();
                        }
                    }
                    WatchUpdate::Progress { .. } => {}
                    WatchUpdate::Compacted { .. } => break,
                }
            }
            if !self.is_held(held).await {
                return "its key is gone".to_owned();
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn changes(&self, from: i64) -> Result<Watcher, Error> {
        let range = RangeRequest::get(self.key.clone()).range;
        self.store.watch(WatchRequest { range, start_revision: from, ..WatchRequest::default() }).await
    }
}

fn decode(kv: &KeyValue) -> Option<Holder> {
    let decoded = serde_json::from_slice(&kv.value);
    decoded
        .inspect_err(|error| tracing::warn!(%error, "the role's key does not say who holds it: it is taken over"))
        .ok()
}
