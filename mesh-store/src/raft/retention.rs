//! How much history is kept, and forgetting the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::replica::Replica;

/// Compaction is done in steps of at most so many revisions, so that none takes long under the state's lock.
const STEP: i64 = 5_000;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// History is forgotten when it is older than `min_age`, or when there are more than `max_revisions` of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub min_age: Duration,
    pub max_revisions: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { min_age: Duration::from_mins(10), max_revisions: 100_000 }
    }
}

/// Which revision was the newest at which time, one sample a second for as long as history is kept.
#[derive(Debug)]
pub(crate) struct Ages {
    retention: Retention,
    samples: VecDeque<(Instant, i64)>,
}

impl Ages {
    pub(crate) fn new(retention: Retention) -> Self {
        Self { retention, samples: VecDeque::new() }
    }

    /// Notes the newest revision and says what may be forgotten: everything below the answer.
    pub(crate) fn observe(&mut self, now: Instant, newest: i64) -> i64 {
        if self.samples.back().is_none_or(|(_, revision)| *revision != newest) {
            self.samples.push_back((now, newest));
        }
        let old = |at: &Instant| now.saturating_duration_since(*at) >= self.retention.min_age;
        // The newest sample that is old enough stays: it is the answer until the next one is.
        while self.samples.get(1).is_some_and(|(at, _)| old(at)) {
            self.samples.pop_front();
        }
        let aged = self.samples.front().filter(|(at, _)| old(at)).map_or(0, |(_, revision)| *revision);
        aged.max(newest - self.retention.max_revisions)
    }
}

/// Every replica notes the ages, the leader compacts.
pub(crate) async fn run(replica: Arc<Replica>, leadership: Leadership, retention: Retention, stop: CancellationToken) {
    let mut ages = Ages::new(retention);
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let target = ages.observe(Instant::now(), replica.revision());
        loop {
            let compacted = replica.state.read().mvcc.compact_revision();
            let revision = target.min(compacted.max(1) + STEP);
            let term = leadership.term();
            if revision <= compacted || term == 0 || stop.is_cancelled() {
                break;
            }
            if let Err(refusal) = leadership.decide(term, Command::Compact { revision }).await {
                tracing::warn!(%refusal, revision, "history cannot be compacted now, trying again later");
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_its_age_and_within_its_count() {
        let retention = Retention { min_age: Duration::from_secs(10), max_revisions: 100 };
        let mut ages = Ages::new(retention);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(ages.observe(at(0), 50), 0);
        assert_eq!(ages.observe(at(5), 60), 0);
        assert_eq!(ages.observe(at(10), 60), 50);
        assert_eq!(ages.observe(at(14), 70), 50);
        assert_eq!(ages.observe(at(15), 70), 60);
        assert_eq!(ages.observe(at(16), 500), 400);
        assert_eq!(ages.observe(at(600), 500), 500);
    }
}
