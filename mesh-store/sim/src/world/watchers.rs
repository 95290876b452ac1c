//! Watchers: each follows its keys over whatever replica it finds, and goes on elsewhere where it left off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_store::Store as _;
use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::{Event, EventKind};
use rand::Rng as _;

use super::{World, clients, leases};
use crate::check::Promise;
use crate::history::{Change, Seen, Watched};

const PREFIXES: [&str; 4] = ["", "kv/", "lock/", "kv/1"];

pub(super) async fn run(world: Arc<World>, watcher: usize) {
    let mut random = world.random(300 + watcher as u64);
    let prefix = PREFIXES[watcher];
    let mut watched = Watched { prefix: prefix.to_owned(), ..Watched::default() };
    // 0 stands for "from now on".
    let mut next = i64::from(watcher.is_multiple_of(2));
    let mut goal = world.goal.subscribe();
    loop {
        if goal.borrow().is_some_and(|goal| next > goal) {
            break;
        }
        let Some((replica, store, dead)) = world.pick(&mut random) else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let started = store.watch(WatchRequest::prefix(prefix, next)).await;
        drop(store);
        let Ok(mut watch) = started else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if next == 0 {
            next = watch.created_revision() + 1;
        }
        if watched.from == 0 {
            watched.from = next;
        }
        world.trace.note(format_args!("watcher {watcher} at {replica} from {next}"));
        let change_over = tokio::time::sleep(random.random_range(Duration::from_millis(300)..Duration::from_secs(8)));
        tokio::pin!(change_over);
        loop {
            let update = tokio::select! {
                biased;
                () = dead.cancelled() => break,
                update = watch.next() => update,
                () = &mut change_over => break,
            };
            match update {
                None => break,
                Some(WatchUpdate::Events(batch)) => {
                    world.trace.note(format_args!(
                        "watcher {watcher}: {} events to {}",
                        batch.events.len(),
                        batch.revision
                    ));
                    watched.seen.extend(batch.events.iter().map(|event| seen(&world, event)));
                    watched.seen.push(Seen::Upto(batch.revision));
                    next = next.max(batch.revision + 1);
                }
                Some(WatchUpdate::Progress { revision }) => {
                    watched.seen.push(Seen::Upto(revision));
                    next = next.max(revision + 1);
                }
                Some(WatchUpdate::Compacted { compact_revision }) => {
                    let what = format!("watcher {watcher} at {next} was told of a compaction at {compact_revision}");
                    world.violation(Promise::Watches, what);
                    break;
                }
            }
            if goal.borrow_and_update().is_some_and(|goal| next > goal) {
                break;
            }
        }
    }
    world.history.lock().watched.push(watched);
}

fn seen(world: &World, event: &Event) -> Seen {
    let key = text(&event.kv.key);
    if event.kind == EventKind::Delete {
        leases::note_deleted(world, &key);
    }
    let value = (event.kind == EventKind::Put).then(|| clients::value(&event.kv));
    Seen::Event { revision: event.kv.mod_revision, change: Change { key, value } }
}

pub(super) fn text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}
