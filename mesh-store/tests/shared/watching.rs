//! Reading a watch with a deadline, for every test of a store through its trait.

use std::time::Duration;

use mesh_store::backend::{WatchUpdate, Watcher};
use mesh_store::mvcc::Event;

const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) async fn next(watcher: &mut Watcher) -> WatchUpdate {
    tokio::time::timeout(DEADLINE, watcher.next()).await.expect("an update in time").expect("the watch goes on")
}

/// Collects events until one has this revision.
pub(crate) async fn events_until(watcher: &mut Watcher, revision: i64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match next(watcher).await {
            WatchUpdate::Events(batch) => {
                assert!(batch.events.iter().all(|event| event.kv.mod_revision <= batch.revision));
                events.extend(batch.events);
                if batch.revision >= revision {
                    return events;
                }
            }
            WatchUpdate::Progress { .. } => {}
            WatchUpdate::Compacted { compact_revision } => panic!("compacted at {compact_revision}"),
        }
    }
}
