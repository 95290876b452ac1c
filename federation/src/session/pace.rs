//! When a session may write what it has gathered: at once while its peer changes at a usual rate, and a few times a second
//! when it floods, so that one peer's changes do not take the store's turns from all the others.
//!
//! Pure: told the time, never asks for it. Decides nothing about what is written, and loses nothing: what has to wait is
//! gathered, the last word per key counts, and the resume point moves with it.

use std::time::Duration;

use tokio::time::Instant;

/// Changes a second that a peer may go on with for ever and have each of them written at once. A cluster of a thousand nodes
/// whose Deployments are all being rolled out stays below.
const PER_SECOND: f64 = 500.0;
/// Changes that may come at once after a quiet time: a rollout, or a node that goes with all its pods.
const BURST: f64 = 1000.0;
/// How often a peer that is beyond both is written: each Txn costs the store's replicas a round and a write to disk, however
/// many changes are in it.
const GATHERED: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Pace {
    /// Changes that may be written at once, as of `at`.
    allowance: f64,
    at: Instant,
    written_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { allowance: BURST, at: now, written_at: None }
    }

    /// From when on a batch of so many changes may be written; a moment that is over means now.
    pub(super) fn earliest(&self, events: usize, now: Instant) -> Instant {
        if number(events) <= self.allowance(now) {
            return now;
        }
        self.written_at.map_or(now, |written_at| written_at + GATHERED)
    }

    /// A batch of so many changes is written.
    pub(super) fn wrote(&mut self, events: usize, now: Instant) {
        // Never below nothing: what a listing brings is not paid for afterwards.
        self.allowance = (self.allowance(now) - number(events)).max(0.0);
        self.at = now;
        self.written_at = Some(now);
    }

    fn allowance(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        PER_SECOND.mul_add(since, self.allowance).min(BURST)
    }
}

/// Exact: a batch of 2^32 changes has been cut long before.
fn number(events: usize) -> f64 {
    u32::try_from(events).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Changes come evenly for a time; gives how many Txns were written, and how long the one that waited longest did.
    fn run(per_second: u32, seconds: u32) -> (usize, Duration) {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let (mut batches, mut longest) = (0, Duration::ZERO);
        let mut waiting: Vec<Instant> = Vec::new();
        for n in 0..per_second * seconds {
            let now = begin + Duration::from_secs(1) * n / per_second;
            waiting.push(now);
            if pace.earliest(waiting.len(), now) <= now {
                pace.wrote(waiting.len(), now);
                longest = longest.max(now - waiting[0]);
                waiting.clear();
                batches += 1;
            }
        }
        (batches, longest)
    }

    #[test]
    fn a_usual_rate_is_written_change_by_change() {
        assert_eq!(run(400, 20), (8_000, Duration::ZERO));
    }

    #[test]
    fn a_flood_costs_twenty_txns_a_second_and_no_change_waits_longer_than_they_are_apart() {
        // The burst lasts two seconds.
        assert_eq!(run(1_000, 1), (1_000, Duration::ZERO));
        let (batches, longest) = run(1_000, 12);
        assert!(batches <= 2_000 + 10 * 20 + 1, "{batches}");
        assert!(longest <= GATHERED, "{longest:?}");
        let (batches, longest) = run(20_000, 10);
        assert!(batches <= 1_100 + 10 * 20, "{batches}");
        assert!(longest <= GATHERED, "{longest:?}");
    }

    #[test]
    fn a_listing_is_not_paid_for_afterwards() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        pace.wrote(100_000, begin);
        let later = begin + Duration::from_millis(10);
        assert_eq!(pace.earliest(1, later), later);
    }

    proptest! {
        #[test]
        fn a_batch_never_has_to_wait_longer_than_since_the_last_one(
            steps in proptest::collection::vec((0_u64..200, 1_usize..5_000), 1..200),
        ) {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            for (millis, events) in steps {
                now += Duration::from_millis(millis);
                let earliest = pace.earliest(events, now);
                prop_assert!(earliest <= now + GATHERED);
                now = now.max(earliest);
                prop_assert!(pace.earliest(events, now) <= now);
                pace.wrote(events, now);
            }
        }
    }
}
