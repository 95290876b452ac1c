//! Holders of leases: they keep one alive for a while, then end it, or let it end.

use std::sync::Arc;
use std::time::Duration;

use mesh_store::Store as _;
use mesh_store::backend::Error;
use mesh_store::mvcc::{self, PutRequest};
use rand::Rng as _;

use super::World;
use crate::history::Lease;

pub(super) async fn run(world: Arc<World>, holder: i64) {
    let mut random = world.random(200 + holder.unsigned_abs());
    let mut number = 0;
    while !world.stop.is_cancelled() {
        tokio::time::sleep(random.random_range(Duration::from_millis(50)..Duration::from_millis(500))).await;
        number += 1;
        let id = (holder + 1) * 1000 + number;
        let ttl = random.random_range(2..=4);
        let Some((_, store, dead)) = world.pick(&mut random) else { continue };
        let asked = world.now();
        let granted = tokio::select! {
            biased;
            () = dead.cancelled() => continue,
            granted = store.lease_grant(id, ttl) => granted,
        };
        world.trace.note(format_args!("lease {id} of {ttl} s: {granted:?}"));
        let Ok(granted) = granted else { continue };
        let ttl = Duration::from_secs(granted.ttl.unsigned_abs());
        let lease = Lease { id, ttl, renewed: vec![asked], revoked: None, gone: None };
        let place = {
            let mut history = world.history.lock();
            history.leases.push(lease);
            history.leases.len() - 1
        };
        let put = PutRequest { lease: id, ..PutRequest::new(format!("lease/{id}"), id.to_string()) };
        let attached = tokio::select! {
            biased;
            () = dead.cancelled() => Err(Error::Stopped),
            attached = store.put(put) => attached.map(drop),
        };
        note_gone(&world, place, &attached);
        drop(store);
        for _ in 0..random.random_range(0..4) {
            tokio::time::sleep(random.random_range(Duration::from_millis(200)..ttl)).await;
            let Some((_, store, dead)) = world.pick(&mut random) else { continue };
            let asked = world.now();
            let kept = tokio::select! {
                biased;
                () = dead.cancelled() => Err(Error::Stopped),
                kept = store.lease_keep_alive(id) => kept.map(drop),
            };
            world.trace.note(format_args!("lease {id} kept: {kept:?}"));
            if kept.is_ok() {
                world.history.lock().leases[place].renewed.push(asked);
            }
            note_gone(&world, place, &kept);
        }
        if random.random_bool(0.3)
            && let Some((_, store, dead)) = world.pick(&mut random)
        {
            world.history.lock().leases[place].revoked = Some(world.now());
            let revoked = tokio::select! {
                biased;
                () = dead.cancelled() => Err(Error::Stopped),
                revoked = store.lease_revoke(id) => revoked.map(drop),
            };
            world.trace.note(format_args!("lease {id} revoked: {revoked:?}"));
        }
    }
}

/// The store says that there is no such lease.
fn note_gone(world: &World, place: usize, told: &Result<(), Error>) {
    if matches!(told, Err(Error::Refused(mvcc::Error::LeaseNotFound))) {
        note(world, place);
    }
}

fn note(world: &World, place: usize) {
    let now = world.now();
    let lease = &mut world.history.lock().leases[place];
    lease.gone.get_or_insert(now);
}

/// A watcher was shown that a key of a lease is gone.
pub(super) fn note_deleted(world: &World, key: &str) {
    let Some(id) = key.strip_prefix("lease/").and_then(|id| id.parse::<i64>().ok()) else { return };
    let place = world.history.lock().leases.iter().position(|lease| lease.id == id);
    if let Some(place) = place {
        note(world, place);
    }
}
