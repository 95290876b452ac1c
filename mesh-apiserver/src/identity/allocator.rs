//! Label set to number. Pure: the caller brings the time and persists the changes.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use mesh_types::{ClusterId, IdentityLayout, LabelSet, SecurityIdentity};

use super::Record;

/// # Invariants
/// - One label set has at most one number and the other way round.
/// - A number with a reference is never given to other labels, nor within the quarantine after its last reference went:
///   remote clusters and packets on the way may still mean the old labels by it.
pub struct Allocator {
    range: RangeInclusive<u32>,
    quarantine: Duration,
    entries: BTreeMap<u32, Entry>,
    by_labels: HashMap<LabelSet, u32>,
    /// Where the search for a free number starts: after the newest one, so that a number rests as long as possible.
    next: u32,
    /// Numbers whose record changed, with the labels they have or had.
    changed: BTreeMap<u32, LabelSet>,
}

struct Entry {
    labels: LabelSet,
    references: usize,
    released_unix_nanos: Option<u64>,
}

/// The range is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {count} identity numbers of this cluster are taken: the pod has identity \"init\" until one is free. \
     Look for labels that differ by pod (timestamps, hashes) and remove them"
)]
pub struct Exhausted {
    pub count: u32,
}

impl Allocator {
    pub fn new(layout: IdentityLayout, cluster: ClusterId, quarantine: Duration) -> Self {
        Self::over(layout.allocatable(cluster), quarantine)
    }

    fn over(range: RangeInclusive<u32>, quarantine: Duration) -> Self {
        let next = *range.start();
        Self { range, quarantine, entries: BTreeMap::new(), by_labels: HashMap::new(), next, changed: BTreeMap::new() }
    }

    /// The same with room for a few numbers only.
    #[cfg(test)]
    pub(crate) fn limited_to(self, count: u32) -> Self {
        let first = *self.range.start();
        Self::over(first..=first + count - 1, self.quarantine)
    }

    /// Takes over a number from the store. Numbers outside the range are refused: they are another cluster's.
    pub fn restore(&mut self, number: SecurityIdentity, labels: LabelSet, record: &Record) -> bool {
        if !self.range.contains(&number.0) || self.by_labels.contains_key(&labels) {
            return false;
        }
        self.by_labels.insert(labels.clone(), number.0);
        let entry = Entry { labels, references: 0, released_unix_nanos: record.released_unix_nanos };
        self.entries.insert(number.0, entry);
        self.next = self.after(self.next.max(number.0));
        true
    }

    /// The number of a label set, with one reference more.
    pub fn acquire(&mut self, labels: &LabelSet) -> Result<SecurityIdentity, Exhausted> {
        let number = match self.by_labels.get(labels) {
            Some(number) => *number,
            None => self.allocate(labels)?,
        };
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.references += 1;
            if entry.released_unix_nanos.take().is_some() {
                self.changed.insert(number, labels.clone());
            }
        }
        Ok(SecurityIdentity(number))
    }

    /// One reference less.
    pub fn release(&mut self, number: SecurityIdentity, now_unix_nanos: u64) {
        let Some(entry) = self.entries.get_mut(&number.0) else { return };
        entry.references = entry.references.saturating_sub(1);
        if entry.references == 0 {
            entry.released_unix_nanos = Some(now_unix_nanos);
            self.changed.insert(number.0, entry.labels.clone());
        }
    }

    /// Starts the quarantine of everything restored that nothing refers to: call when all objects are known.
    pub fn release_unreferenced(&mut self, now_unix_nanos: u64) {
        for (number, entry) in &mut self.entries {
            if entry.references == 0 && entry.released_unix_nanos.is_none() {
                entry.released_unix_nanos = Some(now_unix_nanos);
                self.changed.insert(*number, entry.labels.clone());
            }
        }
    }

    /// Counts for numbers that rest already, too.
    pub fn set_quarantine(&mut self, quarantine: Duration) {
        self.quarantine = quarantine;
    }

    /// Frees numbers whose quarantine is over; true when there were any.
    pub fn expire(&mut self, now_unix_nanos: u64) -> bool {
        let quarantine = u64::try_from(self.quarantine.as_nanos()).unwrap_or(u64::MAX);
        let is_over =
            |e: &Entry| e.released_unix_nanos.is_some_and(|at| now_unix_nanos.saturating_sub(at) >= quarantine);
        let over: Vec<u32> = self.entries.iter().filter(|(_, e)| is_over(e)).map(|(n, _)| *n).collect();
        for number in &over {
            if let Some(entry) = self.entries.remove(number) {
                self.by_labels.remove(&entry.labels);
                self.changed.insert(*number, entry.labels);
            }
        }
        !over.is_empty()
    }

    /// Numbers whose record changed since the last call, with their labels; no record: the number is free. Call after each
    /// change, before a freed number can be given to other labels.
    pub fn take_changes(&mut self) -> Vec<(SecurityIdentity, LabelSet, Option<Record>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|(n, labels)| (SecurityIdentity(n), labels, self.record(n))).collect()
    }

    /// Every number and its record.
    pub fn records(&self) -> impl Iterator<Item = (SecurityIdentity, LabelSet, Record)> + '_ {
        self.entries.iter().filter_map(|(n, e)| Some((SecurityIdentity(*n), e.labels.clone(), self.record(*n)?)))
    }

    fn record(&self, number: u32) -> Option<Record> {
        let entry = self.entries.get(&number)?;
        Some(Record { labels: entry.labels.to_sorted_list(), released_unix_nanos: entry.released_unix_nanos })
    }

    fn allocate(&mut self, labels: &LabelSet) -> Result<u32, Exhausted> {
        let count = self.range.end() - self.range.start() + 1;
        if self.entries.len() >= count as usize {
            return Err(Exhausted { count });
        }
        let mut number = self.next;
        while self.entries.contains_key(&number) {
            number = self.after(number);
        }
        self.next = self.after(number);
        self.by_labels.insert(labels.clone(), number);
        let entry = Entry { labels: labels.clone(), references: 0, released_unix_nanos: None };
        self.entries.insert(number, entry);
        self.changed.insert(number, labels.clone());
        Ok(number)
    }

    fn after(&self, number: u32) -> u32 {
        if number >= *self.range.end() { *self.range.start() } else { number + 1 }
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Label;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn labels(app: &str) -> LabelSet {
        [Label::k8s("app", app)].into_iter().collect()
    }

    fn small() -> Allocator {
        Allocator::over(100..=102, Duration::from_secs(45))
    }

    #[test]
    fn equal_labels_have_one_number_and_keep_it_over_a_restart() {
        let mut first = small();
        let a = first.acquire(&labels("a")).unwrap();
        let b = first.acquire(&labels("b")).unwrap();
        assert_eq!(first.acquire(&labels("a")), Ok(a));
        assert_ne!(a, b);
        let mut second = small();
        for (number, labels, record) in first.records() {
            assert!(second.restore(number, labels, &record));
        }
        assert_eq!(second.acquire(&labels("b")), Ok(b));
        assert_eq!(second.acquire(&labels("a")), Ok(a));
        second.release_unreferenced(0);
        assert!(second.take_changes().is_empty(), "a restart that changes nothing writes nothing");
    }

    #[test]
    fn a_number_rests_for_the_quarantine_after_its_last_reference() {
        let mut allocator = small();
        let a = allocator.acquire(&labels("a")).unwrap();
        allocator.acquire(&labels("a")).unwrap();
        allocator.release(a, 0);
        allocator.expire(1000 * SECOND);
        assert_eq!(allocator.acquire(&labels("a")), Ok(a), "still referenced");
        allocator.release(a, 0);
        allocator.release(a, 10 * SECOND);
        assert!(!allocator.expire(54 * SECOND));
        assert!(allocator.expire(55 * SECOND));
        assert_ne!(allocator.acquire(&labels("b")).unwrap(), a, "the search goes on before it wraps around");
    }

    #[test]
    fn labels_that_return_within_the_quarantine_get_their_number_back() {
        let mut allocator = small();
        let a = allocator.acquire(&labels("a")).unwrap();
        allocator.release(a, 0);
        assert_eq!(allocator.acquire(&labels("a")), Ok(a));
        assert!(!allocator.expire(1000 * SECOND));
    }

    #[test]
    fn a_full_range_refuses_new_labels_with_a_hint_until_a_number_is_free() {
        let mut allocator = small();
        let a = allocator.acquire(&labels("a")).unwrap();
        allocator.acquire(&labels("b")).unwrap();
        allocator.acquire(&labels("c")).unwrap();
        let full = allocator.acquire(&labels("d")).unwrap_err();
        assert!(full.to_string().starts_with("all 3 identity numbers of this cluster are taken"));
        assert!(allocator.acquire(&labels("b")).is_ok(), "known labels go on");
        allocator.release(a, 0);
        assert!(allocator.acquire(&labels("d")).is_err(), "in quarantine");
        allocator.expire(45 * SECOND);
        assert_eq!(allocator.acquire(&labels("d")), Ok(a));
    }

    #[test]
    fn another_clusters_number_is_not_taken_over() {
        let record = Record { labels: "k8s:app=x;".into(), released_unix_nanos: None };
        assert!(!small().restore(SecurityIdentity(99), labels("x"), &record));
    }
}
