//! Reading an external etcd through an overlay, which etcd knows nothing of: both places of a range are read in one
//! transaction, or watched in one watch, and made one here.
//!
//! ```text
//!  range:  Txn{both places} --Overlay::merge--> sorted, cut
//!  watch:  one watch from the first place to the last, the rest passed over --> the other places of what changed, as of
//!          that revision --Overlay::events--> one line of events
//! ```

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use mesh_store_mvcc::{
    Error as Refusal, Event, KeyRange, KeyValue, Overlay, RangeRequest, RangeResponse, SortOrder, TxnOp, TxnRequest,
};

use tokio::time::Instant;

use super::follow::{Following, RETRY_MOST};
use super::{External, convert};
use crate::backend::{Class, Error, Result, WatchBatch, WatchUpdate};

/// etcd's limit for a transaction is 128, unless it is told otherwise.
const READS_PER_TXN: usize = 100;

impl External {
    pub(super) async fn range_overlaid(&self, request: RangeRequest, overlay: &Overlay) -> Result<RangeResponse> {
        let Some(part) = overlay.part(&request.range) else { return self.read_one(request).await };
        // Without an order or a filter, the first keys of the whole are among the first ones of each place.
        let has_filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let is_page = request.sort_order == SortOrder::None && has_filters.iter().all(|filter| *filter == 0);
        let place = |range| RangeRequest {
            range,
            limit: if is_page { request.limit } else { 0 },
            revision: request.revision,
            serializable: request.serializable,
            keys_only: request.count_only,
            ..RangeRequest::default()
        };
        let (revision, mut answers) = self.read_together(vec![place(request.range.clone()), place(part)]).await?;
        let (Some(own), Some(everybodys)) = (answers.pop(), answers.pop()) else { return Err(incomplete(self)) };
        let read = everybodys.kvs.len() + own.kvs.len();
        let count = everybodys.count + own.count;
        let more = everybodys.more || own.more;
        let merged = overlay.merge(everybodys.kvs, own.kvs);
        // A key is in both places only while somebody moves it in two steps; on a page, those of the page are known.
        let twice = read - merged.len();
        let (kvs, is_cut) = request.answer(merged);
        let count = count - i64::try_from(twice).unwrap_or_default();
        Ok(RangeResponse { revision, kvs, more: is_cut || (more && !request.count_only), count })
    }

    async fn read_one(&self, request: RangeRequest) -> Result<RangeResponse> {
        let (revision, mut answers) = self.read_together(vec![request]).await?;
        let answer = answers.pop().ok_or_else(|| incomplete(self))?;
        Ok(RangeResponse { revision, ..answer })
    }

    /// Several ranges as of one moment, and the revision then.
    async fn read_together(&self, ranges: Vec<RangeRequest>) -> Result<(i64, Vec<RangeResponse>)> {
        let request = TxnRequest { success: ranges.into_iter().map(TxnOp::Range).collect(), ..TxnRequest::default() };
        let call = || {
            let txn = convert::txn(request.clone());
            let mut kv = self.kv.clone();
            async move { kv.txn(txn).await }.boxed()
        };
        match self.read(call).await {
            Ok(response) => {
                self.seen.note(response.0.header.as_ref());
                let response = convert::txn_response(response.0);
                let answers = response.responses.into_iter().filter_map(|response| match response {
                    mesh_store_mvcc::TxnOpResponse::Range(range) => Some(range),
                    _ => None,
                });
                Ok((response.revision, answers.collect()))
            }
            Err(error) => Err(self.with_compact_revision(error).await),
        }
    }
}

fn incomplete(external: &External) -> Error {
    let reason = "it answered fewer ranges than it was asked for".to_owned();
    Error::External { endpoints: std::sync::Arc::clone(&external.endpoints), reason }
}

/// A watch of both places.
pub(super) struct Overlaid {
    store: External,
    following: Following,
    range: KeyRange,
    overlay: Overlay,
    /// How often it is said that nothing happened, where all that happened is not shown.
    interval: Duration,
    told_at: Instant,
}

impl Overlaid {
    pub(super) fn new(
        store: External,
        following: Following,
        range: KeyRange,
        overlay: Overlay,
        interval: Duration,
    ) -> Self {
        Self { store, following, range, overlay, interval, told_at: Instant::now() }
    }

    pub(super) async fn next(&mut self) -> Option<WatchUpdate> {
        loop {
            let batch = match self.following.next().await? {
                WatchUpdate::Events(batch) => batch,
                other => return Some(other),
            };
            match self.shown_patiently(&batch).await {
                Ok(events) if events.is_empty() => {
                    let is_due = self.told_at.elapsed() >= self.interval;
                    if self.following.take_owed() || is_due {
                        self.told_at = Instant::now();
                        return Some(WatchUpdate::Progress { revision: batch.revision });
                    }
                }
                Ok(events) => return Some(WatchUpdate::Events(WatchBatch { events, ..batch })),
                // What the events mean cannot be read any more: as if they could not be read themselves.
                Err(Error::Refused(Refusal::Compacted { compact_revision })) => {
                    return Some(WatchUpdate::Compacted { compact_revision });
                }
                // The store stops, or will never say: the end of this watch is all that can be told.
                Err(error) => {
                    tracing::warn!(%error, "a watch ends: the other places of what changed cannot be read");
                    return None;
                }
            }
        }
    }

    /// A watch outlives an etcd that is away, as [`Following`] does: what changed waits until it can be told.
    async fn shown_patiently(&self, batch: &WatchBatch) -> Result<Vec<Event>> {
        loop {
            match self.shown(batch).await {
                Err(error) if error.class() == Class::Retryable => {
                    tracing::warn!(%error, "a watch waits for the other places of what changed");
                    tokio::select! {
                        () = self.store.stop.cancelled() => return Err(Error::Stopped),
                        () = tokio::time::sleep(RETRY_MOST) => {}
                    }
                }
                done => return done,
            }
        }
    }

    async fn shown(&self, batch: &WatchBatch) -> Result<Vec<Event>> {
        let mut shown = Vec::new();
        for changes in batch.events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let others = self.others(changes).await?;
            shown.extend(self.overlay.events(&self.range, changes.iter().cloned(), |key| others.get(key).cloned()));
        }
        Ok(shown)
    }

    /// The other places of what changed in one revision, as of that revision.
    async fn others(&self, changes: &[Event]) -> Result<HashMap<Bytes, KeyValue>> {
        let changed: BTreeSet<&Bytes> = changes.iter().map(|event| &event.kv.key).collect();
        let other = |event: &Event| self.overlay.other_place(&self.range, &event.kv.key);
        let asked: Vec<Bytes> = changes.iter().filter_map(other).filter(|key| !changed.contains(key)).collect();
        let revision = changes.first().map_or(0, |event| event.kv.mod_revision);
        let mut found = HashMap::new();
        for keys in asked.chunks(READS_PER_TXN) {
            let ranges = keys.iter().map(|key| RangeRequest { revision, ..RangeRequest::get(key.clone()) }).collect();
            let (_, answers) = self.store.read_together(ranges).await?;
            found.extend(answers.into_iter().flat_map(|answer| answer.kvs).map(|kv| (kv.key.clone(), kv)));
        }
        Ok(found)
    }
}
