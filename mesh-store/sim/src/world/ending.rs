//! The end of a run: does it work again, and what does each replica say has happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_store::mvcc::{PutRequest, RangeRequest};
use mesh_store::{Embedded, Store};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::machine::PATIENCE;
use super::{World, clients, watchers};
use crate::check::Promise;
use crate::history::{Change, Committed, Seen};

/// A write takes no longer when everything is well again; by the simulated clock.
const SLOW: Duration = Duration::from_secs(5);

/// Members that have not changed for so long will not change; by the simulated clock.
const STEADY: Duration = Duration::from_secs(3);

/// Whether the history could be read up to a last write, so that it can be judged.
pub(super) async fn settle(world: &Arc<World>, watching: &TaskTracker) -> bool {
    let replicas: Vec<(u64, Arc<Embedded>)> = {
        let machines = world.machines.lock();
        machines.iter().filter_map(|(id, machine)| Some((*id, Arc::clone(&machine.running.as_ref()?.store)))).collect()
    };
    let Some(members) = members(&replicas).await else {
        world.violation(Promise::Recovers, "nobody says who belongs to the group");
        return false;
    };
    let (replicas, others): (Vec<_>, Vec<_>) = replicas.into_iter().partition(|(id, _)| members.contains(id));
    for (id, _) in others {
        world.take_away(id);
    }
    if let Some((_, store)) = replicas.first() {
        leases_end(world, store).await;
    }
    let mut last = 0;
    for (id, store) in &replicas {
        if let Err(error) = store.ready(PATIENCE).await {
            world.violation(Promise::Recovers, format!("replica {id} does not come back: {error}"));
            continue;
        }
        let value = world.value().to_string();
        let begun = Instant::now();
        match tokio::time::timeout(PATIENCE, store.put(PutRequest::new("end", value))).await {
            Ok(Ok(put)) => last = last.max(put.revision),
            failed => world.violation(Promise::Recovers, format!("a write at replica {id} fails: {failed:?}")),
        }
        if begun.elapsed() > SLOW {
            world.violation(Promise::Recovers, format!("a write at replica {id} took {:?}", begun.elapsed()));
        }
        world.note_cluster(store);
    }
    if last == 0 {
        // Without a last write nothing says up to where the replicas are to be compared.
        return false;
    }
    world.goal.send_replace(Some(last));
    if tokio::time::timeout(PATIENCE, watching.wait()).await.is_err() {
        world.violation(Promise::Watches, format!("a watcher does not get to revision {last}"));
    }
    // A write that was given up may have been done since; the history is read up to the last one of these only.
    for watched in &mut world.history.lock().watched {
        watched.seen.retain(|seen| !matches!(seen, Seen::Event { revision, .. } if *revision > last));
    }
    for (id, store) in &replicas {
        match tokio::time::timeout(PATIENCE, told(&**store, last)).await {
            Ok(Some(told)) => {
                let mut history = world.history.lock();
                if history.committed.is_empty() {
                    history.committed.clone_from(&told);
                }
                history.replicas.insert(*id, told);
            }
            _ => world.violation(Promise::Recovers, format!("replica {id} cannot say what happened up to {last}")),
        }
    }
    for (_, store) in replicas {
        drop(tokio::time::timeout(Duration::from_secs(30), store.shutdown()).await);
    }
    true
}

/// Nobody keeps a lease alive any more.
async fn leases_end(world: &World, store: &Embedded) {
    let begun = Instant::now();
    loop {
        let left = tokio::time::timeout(PATIENCE, store.range(RangeRequest::prefix("lease/"))).await;
        if matches!(&left, Ok(Ok(left)) if left.count == 0) {
            return;
        }
        if begun.elapsed() > PATIENCE {
            world.violation(Promise::Leases, format!("leases do not end: {left:?}"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Who belongs to the group, once that does not change any more: a change that was given up may still be under way.
async fn members(replicas: &[(u64, Arc<Embedded>)]) -> Option<Vec<u64>> {
    let started = Instant::now();
    let mut known: Option<(Vec<u64>, Instant)> = None;
    while started.elapsed() < PATIENCE {
        for (_, store) in replicas {
            let Ok(Ok(members)) = tokio::time::timeout(Duration::from_secs(8), store.members(true)).await else {
                continue;
            };
            let ids: Vec<u64> = members.into_iter().map(|member| member.id).collect();
            match &known {
                Some((before, since)) if *before == ids && since.elapsed() >= STEADY => return Some(ids),
                Some((before, _)) if *before == ids => {}
                _ => known = Some((ids, Instant::now())),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    None
}

/// The changes of each revision, found by comparing what there was at it with what there was before.
async fn told(store: &dyn Store, last: i64) -> Option<Committed> {
    // Sees to it that this replica has applied all of it.
    store.range(RangeRequest::get("end")).await.ok()?;
    let mut told = Committed::new();
    let mut before: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for revision in 2..=last {
        let request = RangeRequest { revision, serializable: true, ..RangeRequest::prefix("") };
        let read = store.range(request).await.ok()?;
        let now: BTreeMap<String, (u64, i64)> =
            read.kvs.iter().map(|kv| (watchers::text(&kv.key), (clients::value(kv), kv.mod_revision))).collect();
        let put = now.iter().filter(|(_, (_, at))| *at == revision);
        let mut changes: Vec<Change> =
            put.map(|(key, (value, _))| Change { key: key.clone(), value: Some(*value) }).collect();
        changes.extend(
            before.keys().filter(|key| !now.contains_key(*key)).map(|key| Change { key: key.clone(), value: None }),
        );
        if !changes.is_empty() {
            told.insert(revision, changes);
        }
        before = now;
    }
    Some(told)
}
