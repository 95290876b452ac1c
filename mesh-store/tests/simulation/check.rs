//! Is what the clients saw possible for one store that does one thing at a time?
//!
//! Revisions order all writes, so that needs no search: every answer names the revision it is about, and the history that a
//! watch delivers says what the store held at each.

use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The write is at this revision.
    Written(i64),
    /// The read is of this revision and found the key's value.
    Read(i64, Option<String>),
    /// The store says that nothing was done.
    NotDone,
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Places in the order of all calls and answers.
    pub(crate) called: u64,
    pub(crate) answered: u64,
    pub(crate) key: String,
    /// What was written; `None` for a read.
    pub(crate) value: Option<String>,
    pub(crate) outcome: Outcome,
}

/// Revision, key and value of every write, in order.
pub(crate) type History = Vec<(i64, String, String)>;

/// Panics with the first thing that cannot be.
pub(crate) fn check(operations: &[Operation], history: &History) {
    let revisions: Vec<_> = history.iter().map(|(revision, ..)| *revision).collect();
    assert!(revisions.iter().copied().eq((2..).take(revisions.len())), "a gap or a repetition: {revisions:?}");
    let at: BTreeMap<i64, (&str, &str)> =
        history.iter().map(|(revision, key, value)| (*revision, (key.as_str(), value.as_str()))).collect();
    let mut places: HashMap<&str, i64> = HashMap::new();
    // Nothing is the value of a key that a lease took with it.
    for (revision, _, value) in history.iter().filter(|(_, _, value)| !value.is_empty()) {
        if let Some(earlier) = places.insert(value, *revision) {
            panic!("{value} was executed twice, at {earlier} and at {revision}");
        }
    }
    for operation in operations {
        match (&operation.outcome, &operation.value) {
            (Outcome::Written(revision), Some(value)) => {
                assert_eq!(at.get(revision), Some(&(operation.key.as_str(), value.as_str())), "lost: {operation:?}");
            }
            (Outcome::NotDone, Some(value)) => {
                assert_eq!(places.get(value.as_str()), None, "done after all: {operation:?}");
            }
            (Outcome::Read(revision, found), _) => {
                let newest = at.range(..=revision).rev().find(|(_, (key, _))| *key == operation.key);
                let expected = newest.map(|(_, (_, value))| (*value).to_owned());
                assert_eq!(*found, expected, "wrong value: {operation:?}");
            }
            _ => {}
        }
    }
    in_real_time_order(operations);
}

/// What was answered before a call is seen by it.
fn in_real_time_order(operations: &[Operation]) {
    let revision = |operation: &Operation| match operation.outcome {
        Outcome::Written(revision) | Outcome::Read(revision, _) => Some(revision),
        Outcome::NotDone | Outcome::Unknown => None,
    };
    let mut answered: Vec<_> = operations.iter().filter(|operation| revision(operation).is_some()).collect();
    let mut called = answered.clone();
    answered.sort_by_key(|operation| operation.answered);
    called.sort_by_key(|operation| operation.called);
    let mut done = answered.into_iter().peekable();
    let mut newest: Option<&Operation> = None;
    for operation in called {
        while let Some(earlier) = done.next_if(|earlier| earlier.answered < operation.called) {
            if newest.is_none_or(|newest| revision(newest) < revision(earlier)) {
                newest = Some(earlier);
            }
        }
        let Some(newest) = newest else { continue };
        let sees = if operation.value.is_some() {
            revision(operation) > revision(newest)
        } else {
            revision(operation) >= revision(newest)
        };
        assert!(sees, "stale: {operation:?} was called after {newest:?} was answered");
    }
}
