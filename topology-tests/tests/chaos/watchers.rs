//! Watchers: each follows its keys at whatever replica it finds, and goes on elsewhere where it left off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::{Event, EventType, ResponseHeader, WatchOptions, WatchResponse};
use mesh_store_sim::check::Promise;
use mesh_store_sim::history::{Change, Seen, Watched};
use rand::Rng as _;

use crate::world::World;
use crate::{clients, leases};

pub(crate) const PREFIXES: [&str; 4] = ["chaos/", "chaos/kv/", "chaos/lock/", "chaos/lease/"];
/// After a replica that could not be used.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn run(world: Arc<World>, watcher: usize) {
    let mut random = world.random(300 + watcher as u64);
    let prefix = PREFIXES[watcher];
    let mut watched = Watched { prefix: prefix.to_owned(), ..Watched::default() };
    // 0 stands for "from now on".
    let mut next = i64::from(watcher.is_multiple_of(2));
    let mut goal = world.goal.subscribe();
    while goal.borrow().is_none_or(|goal| next <= goal) {
        let Some(mut etcd) = world.access.client_of(world.pick(&mut random)).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let options = WatchOptions::new().with_prefix().with_start_revision(next).with_progress_notify();
        let started = tokio::time::timeout(clients::PATIENCE, etcd.watch(prefix, Some(options))).await;
        let Ok(Ok(mut watch)) = started else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        world.watches.fetch_add(1, Ordering::Relaxed);
        let change_over = tokio::time::sleep(random.random_range(Duration::from_millis(500)..Duration::from_secs(15)));
        tokio::pin!(change_over);
        while goal.borrow_and_update().is_none_or(|goal| next <= goal) {
            let response = tokio::select! {
                biased;
                response = watch.message() => response,
                () = &mut change_over => break,
                _ = goal.changed() => {
                    // It need not wait until the store says so unasked.
                    drop(watch.request_progress().await);
                    continue;
                }
            };
            let Ok(Some(response)) = response else { break };
            if response.compact_revision() > 0 {
                let to = response.compact_revision();
                world.violation(
                    Promise::Watches,
                    format!("watcher {watcher} at {next} was told of a compaction at {to}"),
                );
                break;
            }
            if response.canceled() {
                break;
            }
            note(&world, &mut watched, &mut next, &response);
        }
    }
    world.history.lock().watched.push(watched);
}

/// The store promises that a watcher which resumes behind any revision that it was shown misses nothing.
fn note(world: &World, watched: &mut Watched, next: &mut i64, response: &WatchResponse) {
    let revision = response.header().map_or(0, ResponseHeader::revision);
    if *next == 0 {
        *next = revision + 1;
    }
    if watched.from == 0 {
        watched.from = *next;
    }
    for event in response.events() {
        let (revision, change) = change(event);
        leases::note_change(world, &change);
        watched.seen.push(Seen::Event { revision, change });
    }
    watched.seen.push(Seen::Upto(revision));
    *next = (*next).max(revision + 1);
}

/// A change and the revision of it.
pub(crate) fn change(event: &Event) -> (i64, Change) {
    let kv = event.kv().expect("an event has a key");
    let key = String::from_utf8_lossy(kv.key()).into_owned();
    let value = (event.event_type() == EventType::Put).then(|| clients::value(kv));
    (kv.mod_revision(), Change { key, value })
}
