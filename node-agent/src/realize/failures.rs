//! Objects that could not be realized: since when, why, and when to try again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest wait between two tries of an object.
const SLOWEST: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct Failure {
    pub since: Instant,
    pub error: String,
    next: Instant,
    delay: Duration,
}

/// Failed objects by key.
#[derive(Debug)]
pub struct Failures<K>(BTreeMap<K, Failure>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Failures<K> {
    /// Notes how a try ended.
    pub fn note(&mut self, key: &K, error: Option<String>, now: Instant) {
        let Some(error) = error else {
            self.0.remove(key);
            return;
        };
        let failure = self.0.entry(key.clone()).or_insert_with(|| Failure {
            since: now,
            error: String::new(),
            next: now,
            delay: FIRST / 2,
        });
        failure.error = error;
        failure.delay = (failure.delay * 2).min(SLOWEST);
        failure.next = now + failure.delay;
    }

    /// Objects whose next try is due.
    pub fn due(&self, now: Instant) -> Vec<K> {
        self.0.iter().filter(|(_, f)| f.next <= now).map(|(key, _)| key.clone()).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &Failure)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_object_is_tried_again_ever_more_slowly_until_it_succeeds() {
        let mut failures = Failures::default();
        let start = Instant::now();
        failures.note(&"x", Some("full".into()), start);
        assert!(failures.due(start).is_empty());
        assert_eq!(failures.due(start + FIRST), ["x"]);
        failures.note(&"x", Some("still full".into()), start + FIRST);
        assert!(failures.due(start + FIRST * 2).is_empty());
        assert_eq!(failures.due(start + FIRST * 3), ["x"]);
        assert_eq!(failures.iter().next().unwrap().1.since, start);
        failures.note(&"x", None, start + FIRST * 3);
        assert!(failures.is_empty());
    }
}
