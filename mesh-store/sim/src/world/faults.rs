//! What goes wrong: one thing after another, sometimes several at once, and for a while nothing.

use std::sync::Arc;
use std::time::Duration;

use mesh_store::backend::{Error, Member};
use mesh_store::{Start, Store as _};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::World;
use super::disk::SimDisk;
use super::machine::{Machine, member};
use super::net::Weather;

/// No world has more.
const MOST: usize = 5;

pub(super) async fn run(world: &Arc<World>) {
    let mut random = world.random(400);
    while world.now() < world.settings.lasts {
        tokio::time::sleep(random.random_range(Duration::from_millis(100)..Duration::from_millis(1200))).await;
        for id in world.ids() {
            // One whose crash has come by itself, or that was left down.
            let is_dead = world.machines.lock().get(&id).is_some_and(|machine| machine.disk.dead().is_cancelled());
            if is_dead {
                world.crash(id, &mut random);
            }
            if random.random_bool(0.5) {
                world.start(id, &mut random).await;
            }
        }
        let ids = world.ids();
        let one = *ids.choose(&mut random).unwrap_or(&1);
        match random.random_range(0..100) {
            0..12 => crash(world, one, &mut random),
            12..19 => restart(world, if random.random_bool(0.5) { ids } else { vec![one] }, &mut random).await,
            19..24 => {
                world.trace.note(format_args!("power lost"));
                world.count("power-losses");
                for id in ids {
                    crash(world, id, &mut random);
                }
            }
            24..30 => world.stop(one).await,
            30..40 => {
                world.trace.note(format_args!("{one} cut off"));
                world.count("partitions");
                world.net.cut(ids.iter().filter(|id| **id != one).flat_map(|id| [(one, *id), (*id, one)]));
            }
            40..50 => {
                let other = *ids.choose(&mut random).unwrap_or(&1);
                world.trace.note(format_args!("{one} does not reach {other}"));
                world.count("one-way-cuts");
                world.net.cut([(one, other)]);
            }
            50..54 => {
                world.trace.note(format_args!("{one} is deaf"));
                world.count("one-way-cuts");
                world.net.cut(ids.iter().filter(|id| **id != one).map(|id| (*id, one)));
            }
            54..60 => {
                let weather = Weather {
                    lost: random.random_range(0..250),
                    repeated: random.random_range(0..200),
                    late: random.random_range(0..400),
                    latest: random.random_range(Duration::from_millis(5)..Duration::from_millis(800)),
                };
                world.trace.note(format_args!("{weather:?}"));
                world.count("storms");
                world.net.set_weather(weather);
            }
            60..78 => {
                world.trace.note(format_args!("fair"));
                world.net.mend();
                world.net.set_weather(Weather::FAIR);
            }
            78..84 => {
                let by = random.random_range(Duration::from_millis(100)..Duration::from_secs(3));
                world.trace.note(format_args!("everything stands still for {by:?}"));
                world.count("clock-jumps");
                (world.settings.jump)(by).await;
            }
            84..90 => move_leader(world, one, &mut random).await,
            90..95 => add(world, &mut random).await,
            _ => remove(world, one, &mut random).await,
        }
    }
}

/// Now, or in the middle of one of the next writes.
fn crash(world: &World, id: u64, random: &mut StdRng) {
    if random.random_bool(0.5) {
        return world.crash(id, random);
    }
    if let Some(machine) = world.machines.lock().get(&id) {
        machine.disk.light_fuse(random.random_range(0..6));
    }
}

/// Gone, and back before the others miss them, or soon after.
async fn restart(world: &Arc<World>, which: Vec<u64>, random: &mut StdRng) {
    world.trace.note(format_args!("restart of {which:?}"));
    world.count("restarts-at-once");
    for id in &which {
        world.crash(*id, random);
    }
    tokio::time::sleep(random.random_range(Duration::ZERO..Duration::from_millis(300))).await;
    for id in which {
        world.start(id, random).await;
    }
}

/// Asks some replica, and does not always wait for the answer.
async fn ask<T>(
    world: &World,
    random: &mut StdRng,
    what: &str,
    question: impl AsyncFnOnce(&mesh_store::Embedded) -> Result<T, Error>,
) -> Option<T> {
    let (replica, store, dead) = world.pick(random)?;
    let patience = random.random_range(Duration::from_millis(50)..Duration::from_secs(6));
    let told = tokio::select! {
        biased;
        () = dead.cancelled() => None,
        told = tokio::time::timeout(patience, question(&store)) => told.ok(),
    };
    let error = told.as_ref().map(|told| told.as_ref().err());
    world.trace.note(format_args!("{what} at {replica}: {error:?}"));
    told?.ok()
}

async fn move_leader(world: &World, to: u64, random: &mut StdRng) {
    // It may be refused, or fail: that is for the clients to notice.
    let moved = ask(world, random, "move leader", async |store| store.move_leader(to).await).await;
    if moved.is_some() {
        world.count("hand-overs");
    }
}

async fn add(world: &Arc<World>, random: &mut StdRng) {
    let ids = world.ids();
    let id = ids.iter().max().map_or(1, |last| last + 1);
    if ids.len() >= MOST {
        return;
    }
    // A learner that stays one until it is promoted by hand, or one that is promoted when it is ready.
    let by_hand = random.random_bool(0.3);
    let newcomer = Member { name: String::new(), client_urls: Vec::new(), is_learner: by_hand, ..member(id) };
    let what = format!("add {id}");
    let start = Start::Join { members: ids.into_iter().map(member).collect() };
    // It waits to be admitted, should the group learn of it later.
    world.machines.lock().insert(id, Machine { disk: SimDisk::default(), running: None, start });
    let added = ask(world, random, &what, async |store| store.member_add(newcomer).await).await;
    if added.is_some() {
        world.count("members-added");
    }
    world.start(id, random).await;
    if by_hand {
        tokio::time::sleep(random.random_range(Duration::from_millis(100)..Duration::from_secs(2))).await;
        let promoted = ask(world, random, &format!("promote {id}"), async |store| store.member_promote(id).await).await;
        if promoted.is_some() {
            world.count("members-promoted");
        }
    }
}

/// Takes a replica out for good: its machine is thrown away once the group has agreed.
async fn remove(world: &World, id: u64, random: &mut StdRng) {
    if world.ids().len() <= 3 {
        return;
    }
    let removed = ask(world, random, &format!("remove {id}"), async |store| store.member_remove(id).await).await;
    if removed.is_some() {
        world.count("members-removed");
        world.crash(id, random);
        world.machines.lock().remove(&id);
    }
}
