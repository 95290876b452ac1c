//! The leader is killed under load: how long no write is acknowledged, and what a watcher that stays connected sees.
//!
//! Writers and the watcher are connected to the members that live. A write that fails is tried again at once, as any client
//! does; whether it was done all the same the watcher tells: it must see every acknowledged write, once, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, WatchOptions, WatchStream};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Scale;
use super::group::{Group, REPLICAS};
use super::load::shared_value;
use super::pair::{Both, Pair};
use super::row::Row;

const PREFIX: &str = "failover/";
const WRITERS: usize = 8;
/// Before the kill, and after the first write that is acknowledged behind it.
const STEADY: Duration = Duration::from_millis(500);
const GIVE_UP: Duration = Duration::from_secs(30);
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// What happened, by the clock of this process.
#[derive(Default)]
struct Seen {
    /// When, and at which revision.
    acknowledged: Vec<(Instant, i64)>,
    refused: usize,
    events: Vec<(Instant, i64)>,
}

/// What one kill cost.
struct Cost {
    without_writes_ms: f64,
    without_events_ms: f64,
    refused: f64,
    missed: f64,
    stream_errors: f64,
}

pub(super) async fn run(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    let costs = pair.alternate("failover: kill the leader", scale.kills, async |group, _| {
        // Boxed: it holds two clients and a stream.
        Box::pin(kill_once(group)).await
    });
    let costs = costs.await?;
    let most = |costs: &[Cost], figure: fn(&Cost) -> f64| costs.iter().map(figure).fold(0.0, f64::max);
    let sum = |costs: &[Cost], figure: fn(&Cost) -> f64| costs.iter().map(figure).sum::<f64>();
    let Both { isthmus, etcd } = &costs;
    let writes = Row::new("failover-no-write", WRITERS, "ms", costs.map(|cost| cost.without_writes_ms))
        .with("max_ms", most(isthmus, |cost| cost.without_writes_ms), most(etcd, |cost| cost.without_writes_ms))
        .with("refused_writes", sum(isthmus, |cost| cost.refused), sum(etcd, |cost| cost.refused));
    let events = Row::new("failover-no-event", 1, "ms", costs.map(|cost| cost.without_events_ms))
        .with("max_ms", most(isthmus, |cost| cost.without_events_ms), most(etcd, |cost| cost.without_events_ms))
        .with("missed_events", sum(isthmus, |cost| cost.missed), sum(etcd, |cost| cost.missed))
        .with("stream_errors", sum(isthmus, |cost| cost.stream_errors), sum(etcd, |cost| cost.stream_errors));
    let limit = 1500.0;
    Ok(vec![writes.aiming("isthmus max <= 1500 ms", |row| row.isthmus_detail("max_ms") <= limit), events])
}

async fn kill_once(group: &mut Group) -> Result<Cost> {
    let leader = group.leader().await?;
    let others: Vec<usize> = (0..REPLICAS).filter(|member| *member != leader).collect();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (stop, written) = (CancellationToken::new(), CancellationToken::new());
    let mut watch_client = group.connect(others[0]).await?;
    let options = WatchOptions::new().with_prefix();
    let mut watch = watch_client.watch(PREFIX, Some(options)).await.context("watch")?;
    let created = watch.message().await?.is_some_and(|answer| answer.created());
    ensure!(created, "the watch was not created");
    let watcher = watcher(watch, Arc::clone(&seen), written.clone());
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        let client = group.connect(others[n % others.len()]).await?;
        writers.spawn(write(client, n, Arc::clone(&seen), stop.clone()));
    }
    let load = async {
        tokio::time::sleep(STEADY).await;
        group.kill(leader)?;
        let killed = Instant::now();
        // The first after the new leader's election: later than anything that was still on its way.
        let resumed = |seen: &Seen| largest_gap(&seen.acknowledged, killed).filter(|(_, end)| end.elapsed() > STEADY);
        while resumed(&seen.lock()).is_none() {
            ensure!(killed.elapsed() < GIVE_UP, "no write is acknowledged {GIVE_UP:?} after the leader's end");
            tokio::time::sleep(RETRY_AFTER).await;
        }
        stop.cancel();
        while let Some(ended) = writers.join_next().await {
            ended.context("a writer ended")?;
        }
        Ok(killed)
    };
    // Even after an error, or the watcher would wait for ever.
    let load = async {
        let killed = load.await;
        written.cancel();
        killed
    };
    let (killed, stream_errors) = tokio::join!(load, watcher);
    let killed = killed?;
    group.spawn(leader)?;
    group.wait_until_serving().await?;
    let seen = std::mem::take(&mut *seen.lock());
    cost(&seen, killed, stream_errors)
}

fn cost(seen: &Seen, killed: Instant, stream_errors: usize) -> Result<Cost> {
    let mut revisions: Vec<i64> = seen.events.iter().map(|(_, revision)| *revision).collect();
    ensure!(revisions.is_sorted(), "the watcher had events out of order");
    revisions.dedup();
    ensure!(revisions.len() == seen.events.len(), "the watcher had an event twice");
    let acknowledged = seen.acknowledged.iter();
    let missed = acknowledged.filter(|(_, revision)| revisions.binary_search(revision).is_err()).count();
    let milliseconds = |times: &[(Instant, i64)]| {
        let (gap, _) = largest_gap(times, killed).context("nothing happened after the leader's end")?;
        Ok::<_, anyhow::Error>(gap.as_secs_f64() * 1e3)
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
    Ok(Cost {
        without_writes_ms: milliseconds(&seen.acknowledged)?,
        without_events_ms: milliseconds(&seen.events)?,
        refused: seen.refused as f64,
        missed: missed as f64,
        stream_errors: stream_errors as f64,
    })
}

/// The longest time without one of `times` that ended after `since`, and when it ended.
fn largest_gap(times: &[(Instant, i64)], since: Instant) -> Option<(Duration, Instant)> {
    let pairs = times.windows(2).filter(|pair| pair[1].0 > since);
    pairs.map(|pair| (pair[1].0.saturating_duration_since(pair[0].0), pair[1].0)).max()
}

async fn write(client: Client, writer: usize, seen: Arc<Mutex<Seen>>, stop: CancellationToken) {
    let mut client = client.kv_client();
    let value = shared_value();
    while !stop.is_cancelled() {
        if let Ok(answer) = client.put(format!("{PREFIX}{writer}"), &value[..], None).await {
            let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            seen.lock().acknowledged.push((Instant::now(), revision));
        } else {
            seen.lock().refused += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Listens until everything has come that was acknowledged when the last writer ended; returns how often the stream broke.
async fn watcher(watch: WatchStream, seen: Arc<Mutex<Seen>>, written: CancellationToken) -> usize {
    let (_requests, mut stream) = watch.split();
    loop {
        let all_heard = async {
            written.cancelled().await;
            let all_here = |seen: &Seen| {
                let last = seen.events.last().map_or(0, |(_, revision)| *revision);
                seen.acknowledged.iter().all(|(_, revision)| *revision <= last)
            };
            let deadline = Instant::now() + STEADY * 4;
            while !all_here(&seen.lock()) && Instant::now() < deadline {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        };
        // Only one of both is ever borrowed: the answer is noted behind the choice.
        let answer = tokio::select! {
            biased;
            answer = stream.message() => answer,
            () = all_heard => return 0,
        };
        let Ok(Some(answer)) = answer else { return 1 };
        let now = Instant::now();
        let revisions = answer.events().iter().filter_map(|event| event.kv()).map(etcd_client::KeyValue::mod_revision);
        seen.lock().events.extend(revisions.map(|revision| (now, revision)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(acknowledged: &[(u64, i64)], events: &[(u64, i64)]) -> (Seen, Instant) {
        let start = Instant::now();
        let at = |times: &[(u64, i64)]| times.iter().map(|(ms, r)| (start + Duration::from_millis(*ms), *r)).collect();
        (Seen { acknowledged: at(acknowledged), refused: 0, events: at(events) }, start)
    }

    #[test]
    fn the_gap_counted_is_the_one_behind_the_kill() {
        let (seen, start) = seen(&[(0, 2), (300, 3), (310, 4), (410, 5)], &[(1, 2), (301, 3), (311, 4), (471, 5)]);
        let cost = cost(&seen, start + Duration::from_millis(305), 0).unwrap();
        assert!((cost.without_writes_ms - 100.0).abs() < 0.1 && (cost.without_events_ms - 160.0).abs() < 0.1);
        assert!(cost.missed < 0.5);
    }

    #[test]
    fn an_acknowledged_write_without_an_event_is_missed_and_an_event_twice_is_an_error() {
        let (missing, start) = seen(&[(0, 2), (9, 3), (10, 4)], &[(1, 2), (11, 4)]);
        assert!(cost(&missing, start, 0).unwrap().missed > 0.5);
        let (twice, start) = seen(&[(0, 2), (10, 4)], &[(1, 2), (2, 2), (11, 4)]);
        assert!(cost(&twice, start, 0).is_err());
    }
}
