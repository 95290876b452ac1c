//! One watch of the embedded store: a cursor into the history, and a bell that says when to look.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use mesh_store_mvcc::{Changes, Event, KeyRange, Overlay};
use tokio_util::sync::CancellationToken;

use super::replica::Replica;
use super::watch_hub::Registration;
use crate::backend::{WatchBatch, WatchControl, WatchRequest, WatchUpdate, Watcher};
use crate::metrics::Metrics;

/// A batch ends with the revision that fills it: whole revisions only.
const EVENTS_PER_BATCH: usize = 1000;
const BYTES_PER_BATCH: usize = 1 << 20;

pub(crate) fn start(
    replica: &Arc<Replica>,
    request: WatchRequest,
    progress_interval: Duration,
    stop: CancellationToken,
) -> Watcher {
    let registration = replica.hub.register(request.range.clone());
    let overlaid = request.overlay.as_ref().and_then(|overlay| overlay.part(&request.range));
    let overlaid = overlaid.map(|part| replica.hub.register_bell(part, Arc::clone(&registration.bell)));
    let current = replica.revision();
    let cursor = if request.start_revision > 0 { request.start_revision } else { current + 1 };
    if cursor <= current {
        // Later changes ring by themselves, since the registration came first; this is for those before.
        registration.bell.ring(cursor);
    }
    let bell = Arc::clone(&registration.bell);
    let control = WatchControl::new(move || bell.ask_progress());
    let watch = Watch {
        counted: Counted::new(replica.metrics.clone()),
        replica: Arc::clone(replica),
        registration,
        _overlaid: overlaid,
        range: request.range,
        overlay: request.overlay,
        cursor,
        progress_interval: request.progress_interval.unwrap_or(progress_interval),
        stop,
    };
    let updates = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let update = watch.next().await?;
        let ended = matches!(update, WatchUpdate::Compacted { .. });
        Some((update, (!ended).then_some(watch)))
    });
    Watcher::new(current, control, updates.boxed())
}

struct Watch {
    replica: Arc<Replica>,
    registration: Registration,
    /// Where the overlay keeps its part of the range.
    _overlaid: Option<Registration>,
    range: KeyRange,
    overlay: Option<Overlay>,
    /// Everything below has been delivered.
    cursor: i64,
    progress_interval: Duration,
    stop: CancellationToken,
    counted: Counted,
}

impl Watch {
    async fn next(&mut self) -> Option<WatchUpdate> {
        let idle = tokio::time::sleep(self.progress_interval);
        tokio::pin!(idle);
        let mut report = false;
        loop {
            let asked = self.registration.bell.take_asked();
            if let Some(update) = self.look(asked || report) {
                return Some(update);
            }
            report = false;
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.registration.bell.rung() => {}
                () = &mut idle => {
                    report = true;
                    idle.as_mut().reset(tokio::time::Instant::now() + self.progress_interval);
                }
            }
        }
    }

    fn show(&self, changes: &Changes<'_>, mut event: impl FnMut(Event)) {
        match &self.overlay {
            Some(overlay) => changes.events_through(&self.range, overlay).into_iter().for_each(event),
            None => changes.events_in(&self.range).for_each(&mut event),
        }
    }

    /// What there is to deliver now. All under the state's lock, so that the revision reported with it is exact.
    fn look(&mut self, report: bool) -> Option<WatchUpdate> {
        let state = self.replica.state.read();
        let current = state.mvcc.revision();
        let pending = self.registration.bell.take_pending();
        if pending == 0 || self.cursor > current {
            self.counted.slow(false);
            // A watch that starts in the future has nothing to report before its start.
            if !report || self.cursor > current + 1 {
                return None;
            }
            self.cursor = current + 1;
            return Some(WatchUpdate::Progress { revision: current });
        }
        // Between the cursor and the first pending revision nothing matched.
        let from = self.cursor.max(pending);
        let Ok(history) = state.mvcc.history_since(from) else {
            self.counted.slow(false);
            return Some(WatchUpdate::Compacted { compact_revision: state.mvcc.compact_revision() });
        };
        let mut events: Vec<Event> = Vec::new();
        let mut bytes = 0;
        // With no change left to show, all up to now has been looked at, also where there never was one: an empty store's
        // first revision has none.
        let mut reached = current;
        for changes in history {
            self.show(&changes, |event| {
                bytes += event.kv.key.len() + event.kv.value.len();
                events.push(event);
            });
            if events.len() >= EVENTS_PER_BATCH || bytes >= BYTES_PER_BATCH {
                reached = changes.revision();
                break;
            }
        }
        self.cursor = reached + 1;
        let behind = reached < current;
        if behind {
            self.registration.bell.ring(self.cursor);
        }
        self.counted.slow(behind);
        if events.is_empty() {
            return None;
        }
        Some(WatchUpdate::Events(WatchBatch { revision: reached, events }))
    }
}

/// Keeps the gauges of running and slow watches right, also when a watch is dropped.
struct Counted {
    metrics: Metrics,
    slow: bool,
}

impl Counted {
    fn new(metrics: Metrics) -> Self {
        metrics.watchers.inc();
        Self { metrics, slow: false }
    }

    fn slow(&mut self, slow: bool) {
        if self.slow != slow {
            self.slow = slow;
            self.metrics.slow_watchers.inc_by(if slow { 1 } else { -1 });
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.slow(false);
        self.metrics.watchers.dec();
    }
}
