//! Three replicas as real processes, under load, while their processes, lines and disks fail; judged by the checks of the
//! simulation (`mesh-store-sim`).
//!
//! `ISTHMUS_CHAOS_SECONDS` says how long (60), `ISTHMUS_CHAOS_SEED` which faults in which order (1); the run prints both. The
//! faults and what clients ask are drawn from the seed, how the kernel runs them is not.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]

mod checkpoint;
mod clients;
mod faults;
mod leases;
mod lines;
mod report;
mod watchers;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_store_sim::check;
use topology_tests::scenario::Setup;

use self::checkpoint::Historian;
use self::faults::Faults;
use self::world::World;

/// Of each replica's disk: what the store wants free, some log, and room to fill.
const DISK_MIB: u32 = 320;

#[test]
fn three_replicas_keep_every_promise_while_processes_lines_and_disks_fail() {
    let lasts: u64 = std::env::var("ISTHMUS_CHAOS_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    let seed: u64 = std::env::var("ISTHMUS_CHAOS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let Some(s) = Setup::stores("chaos", DISK_MIB).start().unwrap() else { return };
    println!("chaos: seed {seed}, {lasts} s; again by: make chaos ARGS='--seed {seed} --seconds {lasts}'");
    let world = Arc::new(World::new(&s, seed));
    let running = world.start_clients(&s);
    let mut faults = Faults::new(&s, Arc::clone(&world), seed);
    let mut historian = Historian::new(&s, Arc::clone(&world));
    let end = Instant::now() + Duration::from_secs(lasts);
    while Instant::now() < end {
        faults.next();
        historian.read_if_due();
    }
    let following = running.stop_asking(&world);
    let last = historian.read();
    world.goal.send_replace(Some(last));
    following.join().unwrap();
    let checked = Instant::now();
    let history = world.take_history(last);
    let mut violations = world.take_violations();
    violations.extend(check::all(&history));
    report::print(&world, &history, &faults, checked.elapsed());
    for violation in &violations {
        println!("chaos: violation: {violation}");
    }
    println!("chaos: {} violations", violations.len());
    assert!(violations.is_empty(), "seed {seed}: see above, and the logs in {}", s.lab.logs().display());
    s.end().unwrap();
}
