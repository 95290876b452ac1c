//! A watch as its consumer sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt as _};
use mesh_store_mvcc::{Event, KeyRange, Overlay};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// Deliver events from this revision on; 0 means from the next change on. It may lie in the future.
    pub start_revision: i64,
    /// How often an idle watch reports that nothing happened; `None` takes the store's setting.
    pub progress_interval: Option<Duration>,
    /// Show the range through this: what changes in either place is one line of events.
    pub overlay: Option<Overlay>,
}

impl WatchRequest {
    /// Watch every key with a prefix from a revision on.
    pub fn prefix(prefix: impl Into<bytes::Bytes>, start_revision: i64) -> Self {
        Self { range: KeyRange::prefix(prefix), start_revision, ..Self::default() }
    }
}

/// Events of a watch, whole revisions at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything of the watch up to this revision has now been delivered: resume from the one after it.
    pub revision: i64,
    /// In order of their revisions; previous versions included where they are still known.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchUpdate {
    Events(WatchBatch),
    /// Nothing happened in the range up to this revision: a new resume point.
    Progress {
        revision: i64,
    },
    /// The watch fell behind the compaction and has ended. Read the range again and watch from there.
    Compacted {
        compact_revision: i64,
    },
}

/// A running watch: a stream of [`WatchUpdate`]s. It ends after `Compacted`, or when the store stops.
pub struct Watcher {
    created_revision: i64,
    control: WatchControl,
    updates: BoxStream<'static, WatchUpdate>,
}

impl Watcher {
    /// For backends: `created_revision` is the store's revision when the watch began.
    pub fn new(created_revision: i64, control: WatchControl, updates: BoxStream<'static, WatchUpdate>) -> Self {
        Self { created_revision, control, updates }
    }

    /// The store's revision when the watch began.
    pub fn created_revision(&self) -> i64 {
        self.created_revision
    }

    /// A handle that can ask for progress while another task consumes the updates.
    pub fn control(&self) -> WatchControl {
        self.control.clone()
    }

    pub async fn next(&mut self) -> Option<WatchUpdate> {
        self.updates.next().await
    }
}

impl Stream for Watcher {
    type Item = WatchUpdate;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchUpdate>> {
        self.updates.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("created_revision", &self.created_revision).finish_non_exhaustive()
    }
}

/// Asks a watch to report its progress as soon as it has delivered all there is.
#[derive(Clone)]
pub struct WatchControl(Arc<dyn Fn() + Send + Sync>);

impl WatchControl {
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub fn ask_progress(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for WatchControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchControl")
    }
}
