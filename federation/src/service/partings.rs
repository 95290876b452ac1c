//! Which former peers still have something in the store, and what is to be done with each when. Pure.
//!
//! ```text
//!  add -> Mark (at once) -> marked -> Drain (when the grace is over) -> done
//!          ^- failed: later, and later -^                ^- forget: it is a peer again
//! ```
//! Waiting is a time in this table and nothing else, so that no cluster waits for another one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_types::{ClusterId, ClusterName};

use crate::mirror::Mark;

/// Before a step is tried again; doubled by each failure, as in Cilium.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Its configuration goes.
    Mark,
    /// All the rest goes.
    Drain,
}

pub(super) struct Partings {
    grace: Duration,
    parted: BTreeMap<ClusterName, Parted>,
}

struct Parted {
    step: Step,
    due: Instant,
    /// `None` until it is marked.
    id: Option<u32>,
    failures: u32,
}

impl Partings {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, parted: BTreeMap::new() }
    }

    /// Counts for those that are marked from now on.
    pub(super) fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// A cluster is no peer, or is found to be none. One that is known already goes on as it was.
    pub(super) fn add(&mut self, name: &ClusterName, now: Instant) {
        self.parted.entry(name.clone()).or_insert(Parted { step: Step::Mark, due: now, id: None, failures: 0 });
    }

    /// It is a peer again, or nothing is left of it; true if it was here.
    pub(super) fn forget(&mut self, name: &ClusterName) -> bool {
        self.parted.remove(name).is_some()
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.parted.values().map(|parted| parted.due).min()
    }

    pub(super) fn due(&self, now: Instant) -> Vec<(ClusterName, Step)> {
        let due = self.parted.iter().filter(|(_, parted)| parted.due <= now);
        due.map(|(name, parted)| (name.clone(), parted.step)).collect()
    }

    /// The mark stands. The grace counts from when it was set first, and is never longer than its whole, whatever the clock
    /// of who set it said.
    pub(super) fn marked(&mut self, name: &ClusterName, mark: Mark, now: Instant, now_unix_nanos: u64) {
        let Some(parted) = self.parted.get_mut(name) else { return };
        let waited = Duration::from_nanos(now_unix_nanos.saturating_sub(mark.parted_unix_nanos));
        let due = now + self.grace.saturating_sub(waited);
        *parted = Parted { step: Step::Drain, due, id: Some(mark.id), failures: 0 };
    }

    /// A step did not succeed. Returns in how long it is tried again.
    pub(super) fn failed(&mut self, name: &ClusterName, now: Instant) -> Duration {
        let Some(parted) = self.parted.get_mut(name) else { return Duration::ZERO };
        let wait = FIRST_RETRY.saturating_mul(1 << parted.failures.min(8)).min(LAST_RETRY);
        parted.failures += 1;
        parted.due = now + wait;
        wait
    }

    /// Those that may have this id: their numbers would be another cluster's.
    pub(super) fn of_id(&self, id: ClusterId) -> Vec<ClusterName> {
        // 0 in what older versions mirrored.
        let may_have = |parted: &Parted| parted.id.is_none_or(|known| known == 0 || known == id.get());
        self.parted.iter().filter(|(_, parted)| may_have(parted)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_mins(3);
    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> ClusterName {
        ClusterName::new(text).unwrap()
    }

    fn mark(id: u32, second: u64) -> Mark {
        Mark { id, parted_unix_nanos: second * 1_000_000_000 }
    }

    fn nanos(second: u64) -> u64 {
        second * 1_000_000_000
    }

    #[test]
    fn a_parted_cluster_is_marked_at_once_and_drained_after_the_grace() {
        let (b, t0) = (name("b"), Instant::now());
        let mut partings = Partings::new(GRACE);
        assert_eq!(partings.next(), None);
        partings.add(&b, t0);
        assert_eq!(partings.due(t0), [(b.clone(), Step::Mark)]);
        partings.marked(&b, mark(2, 1000), t0, nanos(1000));
        assert_eq!((partings.due(t0 + Duration::from_secs(179)), partings.next()), (vec![], Some(t0 + GRACE)));
        partings.add(&b, t0 + SECOND);
        assert_eq!(partings.next(), Some(t0 + GRACE), "to be told twice draws nothing out");
        assert_eq!(partings.due(t0 + GRACE), [(b.clone(), Step::Drain)]);
        assert!(partings.forget(&b) && !partings.forget(&b));
        assert_eq!(partings.next(), None);
    }

    #[test]
    fn another_grace_counts_for_those_that_part_later() {
        let (b, c, t0) = (name("b"), name("c"), Instant::now());
        let mut partings = Partings::new(GRACE);
        partings.add(&b, t0);
        partings.marked(&b, mark(2, 1000), t0, nanos(1000));
        partings.set_grace(SECOND);
        partings.add(&c, t0);
        partings.marked(&c, mark(3, 1000), t0, nanos(1000));
        assert_eq!(partings.due(t0 + SECOND), [(c, Step::Drain)]);
    }

    #[test]
    fn the_grace_goes_on_over_a_restart_whatever_the_clocks_say() {
        let (b, t0) = (name("b"), Instant::now());
        // (marked at, now) in seconds -> left
        for (at, now, left) in [(1000, 1060, 120), (1000, 1180, 0), (1000, 9000, 0), (5000, 1000, 180), (0, 1000, 0)] {
            let mut partings = Partings::new(GRACE);
            partings.add(&b, t0);
            partings.marked(&b, mark(2, at), t0, nanos(now));
            assert_eq!(partings.next(), Some(t0 + Duration::from_secs(left)), "{at} {now}");
        }
    }

    #[test]
    fn clusters_wait_each_for_itself_and_a_failure_is_tried_again_later_and_later() {
        let (b, c, t0) = (name("b"), name("c"), Instant::now());
        let mut partings = Partings::new(GRACE);
        partings.add(&b, t0);
        partings.marked(&b, mark(2, 1000), t0, nanos(1000));
        partings.add(&c, t0 + SECOND);
        assert_eq!(partings.due(t0 + SECOND), [(c.clone(), Step::Mark)]);
        let waits: Vec<u64> = (0..6).map(|_| partings.failed(&c, t0).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 32]);
        assert_eq!(partings.due(t0 + 32 * SECOND), [(c.clone(), Step::Mark)]);
        partings.marked(&c, mark(3, 1000), t0, nanos(1000));
        partings.failed(&c, t0 + GRACE);
        assert_eq!(partings.due(t0 + GRACE), [(b.clone(), Step::Drain)]);
        assert_eq!(partings.due(t0 + GRACE + 2 * SECOND), [(b, Step::Drain), (c, Step::Drain)]);
    }

    #[test]
    fn who_has_the_id_of_a_cluster_that_is_joined_is_known_and_who_may_have_it_counts_as_well() {
        let t0 = Instant::now();
        let mut partings = Partings::new(GRACE);
        for (cluster, id) in [("b", 2), ("c", 3), ("older", 0)] {
            partings.add(&name(cluster), t0);
            partings.marked(&name(cluster), mark(id, 1000), t0, nanos(1000));
        }
        partings.add(&name("unmarked"), t0);
        assert_eq!(partings.of_id(ClusterId::new(3).unwrap()), ["c", "older", "unmarked"].map(name));
    }
}
