//! Puts, transactions and ranges: calls a second, latencies, syncs and CPU time a call.

use anyhow::Result;

use super::figures::Figures;
use super::load::{self, Call, KEYS, Round};
use super::pair::{Both, Pair};
use super::row::Row;
use super::{Scale, fill};
use crate::bench::stats::percentile;

/// At so many clients and more the writes have an aim.
const AIMED_CLIENTS: usize = 100;
const CLIENTS: usize = 100;
/// Each answer has a quarter of a megabyte.
const CLIENTS_OF_LONG_RANGES: usize = 10;

pub(super) async fn puts(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &clients in &scale.put_clients {
        let both = measure(pair, scale, Call::Put, clients).await?;
        let row = row("put-256B".to_owned(), clients, &both);
        let row = if clients >= AIMED_CLIENTS {
            row.aiming("ratio >= 2, p99 no worse", |row| {
                row.ratio >= 2.0 && row.isthmus_detail("p99_ms") <= row.etcd_detail("p99_ms")
            })
        } else {
            row
        };
        rows.push(row);
    }
    Ok(rows)
}

pub(super) async fn txns(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    let both = measure(pair, scale, Call::Txn, CLIENTS).await?;
    Ok(vec![row("txn-compare-put-256B".to_owned(), CLIENTS, &both)])
}

pub(super) async fn ranges(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    for group in [&pair.isthmus, &pair.etcd] {
        fill::run(group, KEYS as usize, 0).await?;
    }
    let mut rows = Vec::new();
    for (keys, clients) in [(1, CLIENTS), (1000, CLIENTS_OF_LONG_RANGES)] {
        for (serializable, mode) in [(false, "linearizable"), (true, "serializable")] {
            let both = measure(pair, scale, Call::Range { keys, serializable }, clients).await?;
            rows.push(row(format!("range-{keys}-{mode}"), clients, &both));
        }
    }
    Ok(rows)
}

async fn measure(pair: &mut Pair, scale: &Scale, call: Call, clients: usize) -> Result<Both<Round>> {
    let what = format!("{}: {call:?}, {clients} clients", pair.workload);
    pair.alternate(&what, scale.rounds, async |group, round| load::run(group, call, clients, scale.round, round).await)
        .await
}

fn row(workload: String, clients: usize, both: &Both<Round>) -> Row {
    let per_second = both.map(Round::per_second);
    let latency = |rounds: &[Round], percent| {
        let mut all: Vec<f64> = rounds.iter().flat_map(|round| round.latencies_ms.iter().copied()).collect();
        percentile(&mut all, percent)
    };
    let calls = |rounds: &[Round]| rounds.iter().map(Round::calls).sum::<f64>().max(1.0);
    let (our_calls, their_calls) = (calls(&both.isthmus), calls(&both.etcd));
    let (ours, theirs) = (summed(&both.isthmus), summed(&both.etcd));
    let [our_syncs, their_syncs] = [&ours, &theirs].map(|figures| figures.log.calls + figures.data.calls);
    let [our_cpu, their_cpu] = [&ours, &theirs].map(|figures| figures.cpu_seconds * 1e6);
    let row = Row::new(workload, clients, "calls/s", per_second)
        .with("p50_ms", latency(&both.isthmus, 50.0), latency(&both.etcd, 50.0))
        .with("p99_ms", latency(&both.isthmus, 99.0), latency(&both.etcd, 99.0))
        .with("cpu_us_per_call", our_cpu / our_calls, their_cpu / their_calls)
        .with("fdatasync_calls", our_syncs, their_syncs);
    if our_syncs < 1.0 && their_syncs < 1.0 {
        return row;
    }
    row.with("fdatasync_per_call", our_syncs / our_calls, their_syncs / their_calls)
        .with("fdatasync_mean_ms", ours.log.mean_ms(), theirs.log.mean_ms())
        .with("fdatasync_p99_below_ms", ours.log.p99_below_ms(), theirs.log.p99_below_ms())
}

fn summed(rounds: &[Round]) -> Figures {
    let mut sum = Figures::default();
    for round in rounds {
        sum.add(&round.figures);
    }
    sum
}
