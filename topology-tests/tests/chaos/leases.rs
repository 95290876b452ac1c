//! Holders of leases: they keep one alive for a while, then end it, or let it end.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, LeaseGrantOptions, PutOptions};
use mesh_store_sim::history::{Change, Lease};
use rand::Rng as _;

use crate::clients::{PATIENCE, PREFIX};
use crate::world::World;

pub(crate) async fn run(world: Arc<World>, holder: i64) {
    let mut random = world.random(200 + holder.unsigned_abs());
    let mut number = 0;
    while !world.stop.is_cancelled() {
        tokio::time::sleep(random.random_range(Duration::from_millis(50)..Duration::from_millis(500))).await;
        number += 1;
        let id = (holder + 1) * 100_000 + number;
        let options = LeaseGrantOptions::new().with_id(id);
        let ttl = random.random_range(2..=4);
        let Some(mut etcd) = world.access.client_of(world.pick(&mut random)).await else { continue };
        let asked = world.now();
        let granted = tokio::time::timeout(PATIENCE, etcd.lease_grant(ttl, Some(options))).await;
        let Ok(Ok(granted)) = granted else { continue };
        let ttl = Duration::from_secs(granted.ttl().unsigned_abs());
        let place = {
            let mut history = world.history.lock();
            history.leases.push(Lease { id, ttl, renewed: vec![asked], revoked: None, gone: None });
            history.leases.len() - 1
        };
        let attach = PutOptions::new().with_lease(id);
        let put = etcd.put(key(id), world.value().to_string(), Some(attach));
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, put).await
            && says_gone(&error)
        {
            note_gone(&world, place);
        }
        for _ in 0..random.random_range(0..4) {
            tokio::time::sleep(random.random_range(Duration::from_millis(200)..ttl)).await;
            let Some(mut etcd) = world.access.client_of(world.pick(&mut random)).await else { continue };
            let asked = world.now();
            match tokio::time::timeout(PATIENCE, keep_alive(&mut etcd, id)).await {
                Ok(Some(true)) => world.history.lock().leases[place].renewed.push(asked),
                Ok(Some(false)) => note_gone(&world, place),
                Ok(None) | Err(_) => {}
            }
        }
        if random.random_bool(0.3)
            && let Some(mut etcd) = world.access.client_of(world.pick(&mut random)).await
        {
            world.history.lock().leases[place].revoked = Some(world.now());
            // Whether it was done shows when the lease's key goes.
            drop(tokio::time::timeout(PATIENCE, etcd.lease_revoke(id)).await);
        }
    }
}

fn key(id: i64) -> String {
    format!("{PREFIX}lease/{id}")
}

/// Whether the lease lives on; `None` when nobody says.
async fn keep_alive(etcd: &mut Client, id: i64) -> Option<bool> {
    match etcd.lease_keep_alive(id).await {
        Ok((mut keeper, mut answers)) => {
            keeper.keep_alive().await.ok()?;
            answers.message().await.ok()?.map(|answer| answer.ttl() > 0)
        }
        Err(error) => says_gone(&error).then_some(false),
    }
}

fn says_gone(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message() == "etcdserver: requested lease not found")
}

fn note_gone(world: &World, place: usize) {
    let now = world.now();
    world.history.lock().leases[place].gone.get_or_insert(now);
}

/// A watcher was shown a change.
pub(crate) fn note_change(world: &World, change: &Change) {
    if change.value.is_some() {
        return;
    }
    let id = change.key.strip_prefix(PREFIX).and_then(|key| key.strip_prefix("lease/")?.parse::<i64>().ok());
    let place = id.and_then(|id| world.history.lock().leases.iter().position(|lease| lease.id == id));
    if let Some(place) = place {
        note_gone(world, place);
    }
}
