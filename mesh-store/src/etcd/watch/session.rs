//! The watches of one stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use futures::StreamExt as _;
use futures::stream::{self, AbortHandle, BoxStream, SelectAll};
use mesh_store_mvcc::{Error as Refusal, EventKind, KeyRange};
use tonic::{Status, Streaming};

use super::super::gate::Caller;
use super::super::{Shared, convert};
use crate::backend::{WatchBatch, WatchControl, WatchRequest, WatchUpdate};

/// The id of an answer that is about no single watch.
const NO_WATCH: i64 = -1;
/// `WatchCreateRequest.FilterType`.
const FILTER_NO_PUT: i32 = 0;
const FILTER_NO_DELETE: i32 = 1;
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const STOPPED: &str = "etcdserver: server stopped";

/// An update of one watch, or `None` when the store has ended it.
type Update = (i64, Option<WatchUpdate>);

pub(super) struct Session {
    shared: Arc<Shared>,
    caller: Caller,
    requests: Streaming<PbWatchRequest>,
    updates: SelectAll<BoxStream<'static, Update>>,
    watches: HashMap<i64, Open>,
    /// Watches that a compaction has ended, with what they had delivered. As in etcd their ids stay taken until the client
    /// cancels them.
    ended: HashMap<i64, i64>,
    next_id: i64,
    ready: VecDeque<PbWatchResponse>,
    /// Progress requests, oldest first: each waits until every watch has delivered up to this revision.
    progress_due: VecDeque<i64>,
}

struct Open {
    abort: AbortHandle,
    control: WatchControl,
    start_revision: i64,
    /// Progress was asked of the watch and has not come yet.
    asked: bool,
    /// Everything up to this revision has been delivered.
    delivered: i64,
    show: Show,
    fragment: bool,
}

impl Open {
    fn ask_up_to(&mut self, revision: i64) {
        if self.delivered < revision && !self.asked {
            self.asked = true;
            self.control.ask_progress();
        }
    }

    /// Notes what has been delivered, and asks again when that is not yet what is `due`. True when it was asked for.
    fn reached(&mut self, revision: i64, due: Option<&i64>) -> bool {
        self.delivered = self.delivered.max(revision);
        let was_asked = std::mem::take(&mut self.asked);
        if let Some(due) = due {
            self.ask_up_to(*due);
        }
        was_asked
    }
}

/// Which events a watch shows, and how much of them.
#[derive(Clone, Copy)]
struct Show {
    puts: bool,
    deletes: bool,
    previous: bool,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, caller: Caller, requests: Streaming<PbWatchRequest>) -> Self {
        Self {
            shared,
            caller,
            requests,
            updates: SelectAll::new(),
            watches: HashMap::new(),
            ended: HashMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            progress_due: VecDeque::new(),
        }
    }

    /// The next answer; `None` ends the stream.
    pub(super) async fn next(&mut self) -> Option<Result<PbWatchResponse, Status>> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Some(Ok(response));
            }
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.handle(request).await,
                    Ok(None) => return None,
                    Err(status) => {
                        tracing::debug!(%status, "watch stream broken off by the client");
                        return None;
                    }
                },
                Some((id, update)) = self.updates.next(), if !self.updates.is_empty() => self.deliver(id, update),
            }
        }
    }

    async fn handle(&mut self, request: PbWatchRequest) {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                let filters = &create.filters;
                let open = Wanted {
                    id: create.watch_id,
                    range: watched(create.key, create.range_end),
                    start_revision: create.start_revision,
                    show: Show {
                        puts: !filters.contains(&FILTER_NO_PUT),
                        deletes: !filters.contains(&FILTER_NO_DELETE),
                        previous: create.prev_kv,
                    },
                    fragment: create.fragment,
                };
                self.create(open).await;
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(PbWatchRequestUnion::ProgressRequest(_)) => self.ask_progress(),
            None => {}
        }
    }

    async fn create(&mut self, wanted: Wanted) {
        if wanted.start_revision < 0 {
            return self.refuse(&Refusal::Compacted { compact_revision: 0 }.to_string());
        }
        if let Err(denied) = self.caller.read(&wanted.range) {
            return self.refuse(denied.message());
        }
        if !wanted.range.is_single() && !wanted.range.is_open_ended() && wanted.range.key >= wanted.range.range_end {
            return self.refuse(EMPTY_RANGE);
        }
        let id = match wanted.id {
            0 => self.free_id(),
            id if self.is_taken(id) => return self.refuse(DUPLICATE_ID),
            id => id,
        };
        let request = WatchRequest {
            overlay: self.caller.overlay(&wanted.range),
            range: wanted.range,
            start_revision: wanted.start_revision,
            progress_interval: None,
        };
        let watcher = match self.shared.store.watch(request).await {
            Ok(watcher) => watcher,
            Err(error) => return self.refuse(&error.to_string()),
        };
        self.shared.metrics.watches_created.get_or_create(&self.caller.label).inc();
        let control = watcher.control();
        // A client may resume from any revision it has seen, so none may be shown that has not been delivered yet.
        let before = if wanted.start_revision > 0 { wanted.start_revision - 1 } else { i64::MAX };
        let shown = watcher.created_revision().min(before);
        let delivered = if wanted.start_revision > 0 { before } else { watcher.created_revision() };
        let updates = watcher.map(move |update| (id, Some(update))).chain(stream::once(async move { (id, None) }));
        let (updates, abort) = stream::abortable(updates);
        self.updates.push(updates.boxed());
        let Wanted { show, fragment, start_revision, .. } = wanted;
        let open = Open { abort, control, start_revision, asked: false, delivered, show, fragment };
        self.watches.insert(id, open);
        self.answer(PbWatchResponse { watch_id: id, created: true, ..PbWatchResponse::default() }, shown);
    }

    fn free_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watches.contains_key(&id) || self.ended.contains_key(&id)
    }

    fn refuse(&mut self, reason: &str) {
        let response = PbWatchResponse {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..PbWatchResponse::default()
        };
        self.answer(response, self.shared.store.revision());
    }

    /// A watch that was never there gets no answer, as in etcd.
    fn cancel(&mut self, id: i64) {
        let delivered = match (self.watches.remove(&id), self.ended.remove(&id)) {
            (Some(open), _) => {
                open.abort.abort();
                open.delivered
            }
            (None, Some(delivered)) => delivered,
            (None, None) => return,
        };
        let response = PbWatchResponse { watch_id: id, canceled: true, ..PbWatchResponse::default() };
        self.answer(response, delivered);
        self.answer_progress();
    }

    /// As in etcd, a stream without watches has no progress to report, nor has one with a watch that starts in the future.
    fn ask_progress(&mut self) {
        let revision = self.shared.store.revision();
        if self.watches.is_empty() || self.watches.values().any(|open| open.start_revision > revision) {
            return;
        }
        self.progress_due.push_back(revision);
        for open in self.watches.values_mut() {
            open.ask_up_to(revision);
        }
        self.answer_progress();
    }

    fn answer_progress(&mut self) {
        while let Some(due) = self.progress_due.front().copied() {
            if self.watches.values().any(|open| open.delivered < due) {
                return;
            }
            self.progress_due.pop_front();
            self.answer(PbWatchResponse { watch_id: NO_WATCH, ..PbWatchResponse::default() }, due);
        }
    }

    fn deliver(&mut self, id: i64, update: Option<WatchUpdate>) {
        match update {
            Some(WatchUpdate::Events(batch)) => self.deliver_events(id, batch),
            Some(WatchUpdate::Progress { revision }) => {
                let Some(open) = self.watches.get_mut(&id) else { return };
                let was_asked = open.reached(revision, self.progress_due.back());
                if !was_asked {
                    self.answer(PbWatchResponse { watch_id: id, ..PbWatchResponse::default() }, revision);
                }
            }
            Some(WatchUpdate::Compacted { compact_revision }) => {
                let Some(open) = self.watches.remove(&id) else { return };
                self.ended.insert(id, open.delivered);
                // The revision is the reason: etcd gives no text with it.
                let response =
                    PbWatchResponse { watch_id: id, canceled: true, compact_revision, ..PbWatchResponse::default() };
                self.answer(response, 0);
            }
            None => {
                // The regular end after a compaction comes here too; the watch is forgotten by then.
                let Some(open) = self.watches.remove(&id) else { return };
                let response = PbWatchResponse {
                    watch_id: id,
                    canceled: true,
                    cancel_reason: STOPPED.to_owned(),
                    ..PbWatchResponse::default()
                };
                self.answer(response, open.delivered);
            }
        }
        self.answer_progress();
    }

    fn deliver_events(&mut self, id: i64, batch: WatchBatch) {
        let Some(open) = self.watches.get_mut(&id) else { return };
        open.reached(batch.revision, self.progress_due.back());
        let (show, fragment) = (open.show, open.fragment);
        let events: Vec<PbEvent> = batch
            .events
            .into_iter()
            .filter(|event| if event.kind == EventKind::Put { show.puts } else { show.deletes })
            .map(|event| convert::event(event, show.previous))
            .collect();
        let parts = if fragment { split(events, self.shared.options.max_request_bytes) } else { vec![events] };
        let last = parts.len().saturating_sub(1);
        for (place, events) in parts.into_iter().enumerate().filter(|(_, events)| !events.is_empty()) {
            let response =
                PbWatchResponse { watch_id: id, events, fragment: place < last, ..PbWatchResponse::default() };
            self.answer(response, batch.revision);
        }
    }

    fn answer(&mut self, response: PbWatchResponse, revision: i64) {
        self.ready.push_back(PbWatchResponse { header: Some(self.shared.header(revision)), ..response });
    }
}

/// A watch as it was asked for.
struct Wanted {
    id: i64,
    range: KeyRange,
    start_revision: i64,
    show: Show,
    fragment: bool,
}

/// An empty key means the first one there can be, as in etcd.
fn watched(key: Vec<u8>, range_end: Vec<u8>) -> KeyRange {
    let key = if key.is_empty() { Bytes::from_static(b"\0") } else { key.into() };
    KeyRange::new(key, range_end)
}

/// Parts of roughly at most `bytes` each.
fn split(events: Vec<PbEvent>, bytes: usize) -> Vec<Vec<PbEvent>> {
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for event in events {
        let kvs = event.kv.iter().chain(&event.prev_kv);
        let weight = kvs.map(|kv| kv.key.len() + kv.value.len() + 64).sum::<usize>();
        if size > 0 && size + weight > bytes {
            parts.push(Vec::new());
            size = 0;
        }
        size += weight;
        if let Some(part) = parts.last_mut() {
            part.push(event);
        }
    }
    parts
}
