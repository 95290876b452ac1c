//! What a run prints at its end.

use std::time::{Duration, Instant};

use mesh_store_sim::history::{History, Seen};

use crate::faults::{Faults, Kind};
use crate::world::World;

/// A pause of writes that is worth a word.
const WINDOW: Duration = Duration::from_secs(1);

pub(crate) fn print(world: &World, history: &History, faults: &Faults<'_>, checked: Duration) {
    let answered = history.ops.iter().filter(|op| op.answer.is_some()).count();
    let unknown = history.ops.len() - answered;
    println!(
        "chaos: {} operations answered, {unknown} of unknown outcome, {} refused, {} local reads, {} writes acknowledged",
        answered,
        history.refused.len(),
        history.local_reads.len(),
        world.written(),
    );
    let events = history.watched.iter().flat_map(|watched| &watched.seen);
    println!(
        "chaos: {} revisions, {} events seen by {} watchers in {} watches, {} leases ({} seen to end)",
        history.committed.len(),
        events.filter(|seen| matches!(seen, Seen::Event { .. })).count(),
        history.watched.len(),
        world.watches.load(std::sync::atomic::Ordering::Relaxed),
        history.leases.len(),
        history.leases.iter().filter(|lease| lease.gone.is_some()).count(),
    );
    let total: u64 = faults.counts.values().sum();
    println!("chaos: {total} faults, {} replicas killed beside them: {:?}", faults.also_killed, by_name(faults));
    println!("chaos: {} replicas ended by themselves on a full disk and were started again", faults.ended);
    if faults.left_some_out() {
        println!("chaos: slow disks left out: this kernel has no blkio throttle");
    }
    println!("chaos: clients were told: {:?}", world.errors.lock());
    windows(world, &faults.times);
    println!("chaos: checked in {checked:.1?}");
}

fn by_name(faults: &Faults<'_>) -> std::collections::BTreeMap<String, u64> {
    faults.counts.iter().map(|(kind, count)| (kind.to_string(), *count)).collect()
}

fn windows(world: &World, faults: &[(Kind, Instant, Instant)]) {
    let mut acknowledged = world.acknowledged.lock().clone();
    acknowledged.sort_unstable();
    let mut gaps: Vec<(Duration, Instant)> =
        acknowledged.windows(2).map(|pair| (pair[1] - pair[0], pair[0])).filter(|(gap, _)| *gap > WINDOW).collect();
    gaps.sort_unstable();
    gaps.reverse();
    let total: Duration = gaps.iter().map(|(gap, _)| *gap).sum();
    println!(
        "chaos: {} windows of more than {WINDOW:?} without an acknowledged write, {total:.1?} in all; the longest:",
        gaps.len()
    );
    for (gap, from) in gaps.iter().take(8) {
        let during = faults.iter().find(|(_, began, ended)| *began <= *from + *gap && ended >= from);
        let during = during.map_or_else(|| "no fault".to_owned(), |(kind, ..)| kind.to_string());
        println!("chaos:   {gap:>6.1?} from {:.1} s on, during {during}", (*from - world.started()).as_secs_f64());
    }
}
