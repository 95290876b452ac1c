//! The checks: each takes a history and says what in it could not have happened in a store that keeps its promises.
//!
//! They are pure, and know nothing of how the history came about.

use std::fmt;

use crate::history::History;

mod leases;
mod linear;
mod revisions;
mod watches;

/// The promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Operations on a key look as if they happened one at a time, each between its call and its answer.
    Linearizable,
    /// An acknowledged write is in the history at its revision, revisions are used once and in the order of time, and all
    /// replicas tell one history of one group.
    Revisions,
    /// A watch shows every change of its keys once, in order, without a gap.
    Watches,
    /// A lease lives at least as long as it was promised to.
    Leases,
    /// When everything is well again, the store works.
    Recovers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub what: String,
}

impl Violation {
    pub fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// Everything that is wrong with a history.
pub fn all(history: &History) -> Vec<Violation> {
    let mut found = of_clients(history);
    found.extend(revisions::check(history));
    found.extend(watches::check(&history.watched, &history.committed));
    found
}

/// What is wrong with a history when nobody could be asked at its end what the store holds.
pub fn of_clients(history: &History) -> Vec<Violation> {
    let mut found = linear::check(&history.ops);
    found.extend(leases::check(&history.leases));
    found
}
