//! Many seeds, each in a process of its own: what a process has drawn of randomness before must not matter.
//!
//! `ISTHMUS_SIM_SEEDS=0..10000` runs more of them; `ISTHMUS_SIM_SEEDS=7..8` runs one alone and leaves its trace in the target
//! folder.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test an unwrap is an assertion, also outside the test function"
)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use mesh_store_sim::{entropy, world};

const CHILD: &str = "ISTHMUS_SIM_CHILD";
const TRACE: &str = "ISTHMUS_SIM_TRACE";
/// By the real clock: a run takes a second.
const HANGS_AFTER: Duration = Duration::from_mins(1);
/// What one CI run does.
const SEEDS: Range<u64> = 0..1000;
/// Set when the first world that fails is enough, as for a fault that was planted.
const FIRST_FAILURE: &str = "ISTHMUS_SIM_FIRST_FAILURE";

fn seeds() -> Range<u64> {
    let Ok(wanted) = std::env::var("ISTHMUS_SIM_SEEDS") else { return SEEDS };
    let (first, end) = wanted.split_once("..").expect("ISTHMUS_SIM_SEEDS is first..end");
    first.parse().unwrap()..end.parse().unwrap()
}

/// One seed, in this process. The last line printed is what the parent reads.
fn run_here(seed: u64) {
    entropy::seed(seed);
    std::thread::spawn(|| {
        std::thread::sleep(HANGS_AFTER);
        println!("violation: Recovers: the run has not ended after {HANGS_AFTER:?}");
        std::process::exit(3);
    });
    let trace = std::env::var_os(TRACE).map(|path| std::fs::File::create(path).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let settings =
        world::Settings { seed, lasts: Duration::from_secs(15), jump: |by| tokio::time::advance(by).boxed() };
    let outcome = runtime.block_on(world::run(settings, trace));
    for violation in &outcome.violations {
        println!("violation: {violation}");
    }
    let counts: Vec<String> = outcome.counts.iter().map(|(what, count)| format!("{what}={count}")).collect();
    println!(
        "done: {:016x} violations={} simulated-seconds={} operations={} of-unknown-outcome={} revisions={} \
         watch-updates={} lines-of-trace={} {}",
        outcome.trace.hash(),
        outcome.violations.len(),
        outcome.simulated.as_secs(),
        outcome.operations,
        outcome.unknown,
        outcome.revisions,
        outcome.events,
        outcome.trace.lines(),
        counts.join(" "),
    );
    // What is left of the replicas ends with the process.
    std::process::exit(i32::from(!outcome.violations.is_empty()));
}

fn child(seed: u64, set: &[(&str, String)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "every_seed_keeps_every_promise", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, seed.to_string()).env("RUST_BACKTRACE", "0").envs(set.iter().cloned());
    command.output().unwrap()
}

/// The line that a run ends with.
fn done(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.split_once("done: ").map(|(_, line)| line.to_owned()))
}

/// The counts of such a line.
fn counts(done: &str) -> impl Iterator<Item = (&str, u64)> {
    done.split(' ').filter_map(|word| word.split_once('=')).map(|(what, count)| (what, count.parse().unwrap()))
}

fn trace_path(seed: u64, run: u32) -> String {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    folder.join(format!("simulation-{seed}-{run}.trace")).to_string_lossy().into_owned()
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Ok(seed) = std::env::var(CHILD) {
        run_here(seed.parse().unwrap());
    }
    let Range { start: first, end } = seeds();
    let is_only = end == first + 1;
    let next = AtomicU64::new(first);
    let is_failed = AtomicBool::new(false);
    let is_first_enough = std::env::var_os(FIRST_FAILURE).is_some();
    let totals = Mutex::new(BTreeMap::<String, u64>::new());
    let started = Instant::now();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || (is_first_enough && is_failed.load(Ordering::Relaxed)) {
                        break;
                    }
                    let trace = is_only.then(|| (TRACE, trace_path(seed, 0)));
                    let output = child(seed, trace.as_slice());
                    let done = done(&output);
                    if !output.status.success() || done.is_none() {
                        is_failed.store(true, Ordering::Relaxed);
                        println!(
                            "simulation: seed {seed} fails, again by: ISTHMUS_SIM_SEEDS={seed}..{} cargo test -p mesh-store-sim --test simulation\n{}{}",
                            seed + 1,
                            String::from_utf8_lossy(&output.stdout),
                            String::from_utf8_lossy(&output.stderr),
                        );
                    }
                    let done = done.unwrap_or_default();
                    let mut totals = totals.lock().unwrap();
                    for (what, count) in counts(&done) {
                        *totals.entry(what.to_owned()).or_default() += count;
                    }
                    *totals.entry("worlds".to_owned()).or_default() += 1;
                    drop(totals);
                    if (seed + 1 - first).is_multiple_of(500) {
                        println!("simulation: {} seeds, {} s", seed + 1 - first, started.elapsed().as_secs());
                    }
                    if let Some((_, trace)) = trace {
                        println!("simulation: seed {seed}: {done}, trace in {trace}");
                    }
                }
            });
        }
    });
    let totals = totals.lock().unwrap();
    println!("simulation: {} s, {totals:?}", started.elapsed().as_secs());
    assert!(!is_failed.load(Ordering::Relaxed), "see above");
    for what in ["operations", "revisions", "watch-updates", "crashes"] {
        let total = totals.get(what).copied().unwrap_or_default();
        assert!(total >= end - first, "{what}: {total}, so the worlds have tried too little");
    }
}

#[test]
fn a_seed_gives_the_same_trace_again() {
    for seed in [1, 2, 3] {
        let paths = [trace_path(seed, 1), trace_path(seed, 2)];
        let runs = paths.each_ref().map(|path| done(&child(seed, &[(TRACE, path.clone())])).unwrap());
        let texts = paths.each_ref().map(|path| std::fs::read_to_string(path).unwrap());
        let differ = texts[0].lines().zip(texts[1].lines()).enumerate().find(|(_, (one, other))| one != other);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}
