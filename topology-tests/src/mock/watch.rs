//! One watch of a mock cluster's store: a cursor into its history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use mesh_store::backend::{WatchBatch, WatchControl, WatchRequest, WatchUpdate, Watcher};
use mesh_store::mvcc::{Event, KeyRange};
use tokio::sync::{Notify, watch};

use super::store::Inner;

/// A batch ends with the revision that fills it.
const EVENTS_PER_BATCH: usize = 1000;
/// As etcd's own.
const PROGRESS_EVERY: Duration = Duration::from_mins(10);

struct Watch {
    store: Arc<Inner>,
    revision: watch::Receiver<i64>,
    asked: Arc<Notify>,
    range: KeyRange,
    /// Everything below has been delivered.
    cursor: i64,
}

pub(super) fn start(store: Arc<Inner>, request: WatchRequest) -> Watcher {
    let revision = store.revision.subscribe();
    let current = store.state.read().revision();
    let cursor = if request.start_revision > 0 { request.start_revision } else { current + 1 };
    let asked = Arc::new(Notify::new());
    let bell = Arc::clone(&asked);
    let watch = Watch { store, revision, asked, range: request.range, cursor };
    let updates = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let update = watch.next().await;
        let has_ended = matches!(update, WatchUpdate::Compacted { .. });
        Some((update, (!has_ended).then_some(watch)))
    });
    Watcher::new(current, WatchControl::new(move || bell.notify_one()), updates.boxed())
}

impl Watch {
    async fn next(&mut self) -> WatchUpdate {
        let mut is_asked = false;
        loop {
            self.store.until_it_answers().await;
            self.revision.borrow_and_update();
            if let Some(update) = self.look(is_asked) {
                return update;
            }
            tokio::select! {
                changed = self.revision.changed() => {
                    changed.expect("the sender lives in the store, which this watch holds");
                    is_asked = false;
                }
                () = self.asked.notified() => is_asked = true,
                () = tokio::time::sleep(PROGRESS_EVERY) => is_asked = true,
            }
        }
    }

    fn look(&mut self, is_asked: bool) -> Option<WatchUpdate> {
        let state = self.store.state.read();
        let current = state.revision();
        if self.cursor > current {
            return (is_asked && self.cursor == current + 1).then_some(WatchUpdate::Progress { revision: current });
        }
        let compacted = WatchUpdate::Compacted { compact_revision: state.compact_revision() };
        let replays = self.store.replays.load(Ordering::Relaxed);
        let from = if replays { state.compact_revision() } else { self.cursor };
        let Ok(history) = state.history_since(from) else { return Some(compacted) };
        let mut events: Vec<Event> = Vec::new();
        let mut reached = current;
        for changes in history {
            events.extend(changes.events_in(&self.range));
            if events.len() >= EVENTS_PER_BATCH && !replays {
                reached = changes.revision();
                break;
            }
        }
        self.cursor = reached + 1;
        if events.is_empty() {
            return is_asked.then_some(WatchUpdate::Progress { revision: reached });
        }
        Some(WatchUpdate::Events(WatchBatch { revision: reached, events }))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use mesh_store::Store as _;

    use super::super::MockStore;
    use super::*;

    fn fact(n: u32) -> [(String, Vec<u8>); 1] {
        [(format!("a/{n}"), vec![0; 4])]
    }

    async fn keys(watcher: &mut Watcher) -> Vec<String> {
        match watcher.next().await {
            Some(WatchUpdate::Events(batch)) => {
                batch.events.iter().map(|event| String::from_utf8_lossy(&event.kv.key).into_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_watch_shows_what_changes_from_its_revision_on_and_the_past_again_when_told_to() {
        let store = MockStore::new(7);
        store.write(fact(1));
        store.write(fact(2));
        let mut watcher = store.watch(WatchRequest::prefix("a/", 3)).await.unwrap();
        assert_eq!(keys(&mut watcher).await, ["a/2"]);
        watcher.control().ask_progress();
        assert_eq!(watcher.next().await, Some(WatchUpdate::Progress { revision: 3 }));
        store.set_replays(true);
        store.write(fact(3));
        assert_eq!(keys(&mut watcher).await, ["a/1", "a/2", "a/3"]);
    }

    #[tokio::test]
    async fn a_stalled_store_says_nothing_until_it_goes_on() {
        let store = MockStore::new(7);
        let mut watcher = store.watch(WatchRequest::prefix("a/", 2)).await.unwrap();
        store.set_stalled(true);
        store.write(fact(1));
        assert!(watcher.next().now_or_never().is_none(), "what is there is not told");
        store.set_stalled(false);
        assert_eq!(keys(&mut watcher).await, ["a/1"]);
    }
}
