//! The store beside a real etcd: the same random requests to both, over gRPC on loopback, and equal answers, error codes
//! and texts, revisions and watch events.
//!
//! ```text
//!  seed --> generate --> [Op] --> Pair::run --> etcd    --+
//!                                          \--> isthmus --+--> compare --> alike | Difference --> shrink --> report
//! ```
//! Several pairs run at once, because most of the time is spent waiting for one answer. A sequence that differs is run
//! again on a new pair with ever fewer operations, and the smallest one that still differs is printed.
//!
//! `ISTHMUS_DIFFERENTIAL_OPS=200000` runs longer; `ISTHMUS_DIFFERENTIAL_SEED=7` runs one seed and nothing else;
//! `ISTHMUS_DIFFERENTIAL_SHRINK=0` only says that they differ.

#![expect(clippy::disallowed_methods, reason = "a test ends its tasks with its runtime")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test an unwrap is an assertion")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use topology_tests::bench::etcd_peer::EtcdPeer;

mod alike;
mod generate;
mod op;
mod pair;
mod pick;
mod resolve;
mod rpc;
mod servers;
mod shrink;
mod watches;

use op::Op;
use pair::{Pair, Tally};

/// Each must have been the answer to something.
const REFUSALS: [&str; 12] = [
    "etcdserver: request is too large",
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: requested lease not found",
    "etcdserver: too large lease TTL",
];
const OPS_PER_SEED: u64 = 250;
const DEFAULT_OPS: u64 = 20_000;
const PAIRS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_are_answered_as_etcd_answers_them() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package lies in the workspace")?;
    let etcd = EtcdPeer::obtain(workspace)?;
    if !etcd.version.starts_with("3.6.") {
        println!("skipped: needs etcd 3.6, and here is {} (install Go 1.24 or later)", etcd.version);
        return Ok(());
    }
    let seeds = seeds()?;
    let started = Instant::now();
    let etcd = Arc::new(etcd);
    let next = Arc::new(AtomicU64::new(seeds.start));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..PAIRS.min(seeds.end - seeds.start) {
        let (etcd, next, end) = (Arc::clone(&etcd), Arc::clone(&next), seeds.end);
        workers.spawn(async move {
            let mut pair = Pair::start(&etcd).await?;
            let mut done = 0_u64;
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    let tally = std::mem::take(&mut pair.tally);
                    pair.stop().await;
                    return Ok::<_, anyhow::Error>((done, tally));
                }
                let ops = generate::sequence(seed, OPS_PER_SEED);
                if let Err(difference) = pair.run(&ops).await? {
                    bail!("{}", report(&etcd, seed, &ops, &difference).await?);
                }
                done += ops.len() as u64;
            }
        });
    }
    let mut operations = 0;
    let mut tally = Tally::default();
    while let Some(done) = workers.join_next().await {
        let (done, seen) = done.context("a worker panicked")??;
        operations += done;
        tally.add(seen);
    }
    println!(
        "differential: {operations} operations, {} seeds, alike (etcd {}, {:.0} s)",
        seeds.end - seeds.start,
        etcd.version,
        started.elapsed().as_secs_f64()
    );
    println!("differential: {} watch events, and these refusals: {:#?}", tally.events, tally.refusals);
    if operations >= DEFAULT_OPS {
        anyhow::ensure!(tally.events > operations / 4, "too few watch events to mean something: {}", tally.events);
        for text in REFUSALS {
            anyhow::ensure!(tally.refusals.contains_key(text), "no request was refused with {text:?}");
        }
    }
    Ok(())
}

/// The seeds to run.
fn seeds() -> Result<std::ops::Range<u64>> {
    let number = |name: &str| -> Result<Option<u64>> {
        let Ok(text) = std::env::var(name) else { return Ok(None) };
        text.parse().map(Some).with_context(|| format!("{name}={text} is not a number"))
    };
    if let Some(seed) = number("ISTHMUS_DIFFERENTIAL_SEED")? {
        return Ok(seed..seed + 1);
    }
    let ops = number("ISTHMUS_DIFFERENTIAL_OPS")?.unwrap_or(DEFAULT_OPS);
    Ok(0..ops.div_ceil(OPS_PER_SEED))
}

async fn report(etcd: &EtcdPeer, seed: u64, ops: &[Op], found: &str) -> Result<String> {
    let replay =
        format!("ISTHMUS_DIFFERENTIAL_SEED={seed} cargo test -p topology-tests --test differential -- --nocapture");
    if std::env::var("ISTHMUS_DIFFERENTIAL_SHRINK").is_ok_and(|wanted| wanted == "0") {
        return Ok(format!("seed {seed}: {found}\nreplay: {replay}"));
    }
    Ok(match shrink::smallest(etcd, ops).await? {
        Some((ops, difference)) => {
            let ops: Vec<String> = ops.iter().map(|op| format!("  {op:?}")).collect();
            format!(
                "seed {seed}: {difference}\nafter these {} operations:\n{}\nreplay: {replay}",
                ops.len(),
                ops.join("\n")
            )
        }
        None => format!("seed {seed}, but only after the seeds before it: {found}"),
    })
}
