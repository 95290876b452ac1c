//! A stage and what came of it.

use std::time::Duration;

/// A named part of a run, and the time it should take at most on two cores from a cold start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) budget: Duration,
}

/// Counts, with the names and reasons that people ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) passed: usize,
    pub(super) failed: Vec<String>,
    /// `test: reason`.
    pub(super) skipped: Vec<String>,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}
