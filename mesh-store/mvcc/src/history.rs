//! The events of every revision since the last compaction: what watches are served from.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::{Event, Revision};

/// The events of one revision, in the order they were made; never empty inside the history.
pub type EventBatch = Arc<[Event]>;

/// Why a revision cannot be read from the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("the events of revision {revision} have been compacted away (oldest: {compact_revision})")]
    Compacted { revision: i64, compact_revision: i64 },
}

/// # Invariants
/// Batches are contiguous: batch `i` holds exactly the events of revision `first + i`.
#[derive(Clone, Debug)]
pub(crate) struct History {
    first: i64,
    batches: VecDeque<EventBatch>,
}

impl History {
    /// An empty history whose next revision is `first`.
    pub(crate) fn starting_at(first: i64) -> Self {
        Self { first, batches: VecDeque::new() }
    }

    /// Rebuilds the history of revisions `first..=current` from their events in any order; others are left out.
    pub(crate) fn rebuild(mut events: Vec<(Revision, Event)>, first: i64, current: i64) -> Self {
        events.sort_by_key(|(revision, _)| *revision);
        let mut batches: Vec<Vec<Event>> = (first..=current).map(|_| Vec::new()).collect();
        for (revision, event) in events {
            let batch = usize::try_from(revision.main - first).ok().and_then(|place| batches.get_mut(place));
            if let Some(batch) = batch {
                batch.push(event);
            }
        }
        Self { first, batches: batches.into_iter().map(EventBatch::from).collect() }
    }

    pub(crate) fn push(&mut self, revision: i64, batch: EventBatch) {
        debug_assert_eq!(revision, self.next());
        self.batches.push_back(batch);
    }

    /// The revision that the next batch will have.
    fn next(&self) -> i64 {
        self.first + i64::try_from(self.batches.len()).unwrap_or(i64::MAX)
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// The batches from `revision` on, oldest first.
    pub(crate) fn since(&self, revision: i64) -> impl Iterator<Item = &EventBatch> + '_ {
        let skip = usize::try_from(revision - self.first).unwrap_or(0).min(self.batches.len());
        self.batches.range(skip..)
    }

    /// Drops every batch below `revision` and hands them out, so that the caller can trim the keys they name.
    pub(crate) fn compact(&mut self, revision: i64) -> Vec<EventBatch> {
        let below = usize::try_from(revision - self.first).unwrap_or(0).min(self.batches.len());
        let dropped = self.batches.drain(..below).collect();
        self.first = self.first.max(revision);
        if let Some(front) = self.batches.front_mut() {
            // The versions before the boundary are gone, so a replica restored from a snapshot could not show them.
            let mut later = HashSet::new();
            let mut kept: Vec<Event> = Vec::with_capacity(front.len());
            for event in front.iter().rev().filter(|event| later.insert(&event.kv.key)) {
                kept.push(Event { prev_kv: None, ..event.clone() });
            }
            kept.reverse();
            *front = kept.into();
        }
        dropped
    }
}
