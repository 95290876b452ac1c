//! The changes of every revision since the last compaction: what watches are served from.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use crate::keyspace::Keyspace;
use crate::stored::{Record, Versions};
use crate::{Event, EventKind, KeyRange, Overlay};

/// Why a revision cannot be read from the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("the events of revision {revision} have been compacted away (oldest: {compact_revision})")]
    Compacted { revision: i64, compact_revision: i64 },
}

/// # Invariants
/// Changes are ordered by revision, and every revision since the compaction has some.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    changes: VecDeque<Record>,
}

impl History {
    /// The history from revision `first` on, from the versions that are kept.
    pub(crate) fn rebuild(keyspace: &Keyspace, first: i64) -> Self {
        let versions = keyspace.histories().flat_map(Versions::as_slice);
        let mut changes: Vec<Record> = versions.filter(|record| record.mod_revision >= first).cloned().collect();
        changes.sort_unstable_by_key(|record| record.place());
        Self { changes: changes.into() }
    }

    pub(crate) fn push(&mut self, record: Record) {
        self.changes.push_back(record);
    }

    /// How many revisions it holds.
    pub(crate) fn len(&self) -> usize {
        let (Some(first), Some(last)) = (self.changes.front(), self.changes.back()) else { return 0 };
        usize::try_from(last.mod_revision - first.mod_revision + 1).unwrap_or(0)
    }

    /// Where the changes of the first revision at or after `revision` begin.
    fn start(&self, revision: i64) -> usize {
        self.changes.partition_point(|record| record.mod_revision < revision)
    }

    /// Drops every change below `revision`, hands them out so that the caller can trim the keys they name, and leaves of
    /// each key that `revision` itself changed the last change.
    pub(crate) fn compact(&mut self, revision: i64) -> Vec<Record> {
        let below = self.start(revision);
        let dropped = self.changes.drain(..below).collect();
        let boundary = self.start(revision + 1);
        let at_boundary: Vec<Record> = self.changes.drain(..boundary).collect();
        let mut later = HashSet::new();
        for record in at_boundary.iter().rev().filter(|record| later.insert(record.key())) {
            self.changes.push_front(record.clone());
        }
        dropped
    }

    /// The changes of the oldest revision, if that is `revision`.
    pub(crate) fn at_front(&self, revision: i64) -> impl Iterator<Item = &Record> + '_ {
        self.changes.iter().take_while(move |record| record.mod_revision == revision)
    }
}

/// The changes of one revision, in the order they were made.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    pub(crate) history: &'a History,
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) compacted: i64,
    pub(crate) places: Range<usize>,
}

impl<'a> Changes<'a> {
    fn records(&self) -> impl Iterator<Item = &'a Record> + use<'a> {
        self.history.changes.range(self.places.clone())
    }

    pub fn revision(&self) -> i64 {
        self.records().next().map_or(0, |record| record.mod_revision)
    }

    /// The changes as a watch shows them.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.records().map(|record| self.event(record))
    }

    /// Those of a range of keys.
    pub fn events_in<'b>(&'b self, range: &'b KeyRange) -> impl Iterator<Item = Event> + 'b {
        self.records().filter(|record| range.contains(record.key())).map(|record| self.event(record))
    }

    /// Those of a range of keys as they are shown through an overlay: see [`Overlay::events`].
    pub fn events_through(&self, range: &KeyRange, overlay: &Overlay) -> Vec<Event> {
        let part = overlay.part(range);
        let is_read = |key: &[u8]| range.contains(key) || part.as_ref().is_some_and(|part| part.contains(key));
        let changes = self.records().filter(|record| is_read(record.key())).map(|record| self.event(record));
        let main = self.revision();
        overlay.events(range, changes, |key| self.keyspace.get(key, main).map(Record::key_value))
    }

    fn event(&self, record: &Record) -> Event {
        let main = record.mod_revision;
        // What was before the compaction is gone, and nothing is before what is new.
        let has_before = main > self.compacted && !record.is_create();
        let before = has_before.then(|| self.keyspace.get(record.key(), main - 1)).flatten();
        Event {
            kind: if record.is_deletion() { EventKind::Delete } else { EventKind::Put },
            kv: record.key_value(),
            prev_kv: before.map(Record::key_value),
        }
    }
}

/// The changes from a revision on, one item a revision.
#[derive(Clone, Debug)]
pub(crate) struct Since<'a> {
    rest: Changes<'a>,
}

impl<'a> Since<'a> {
    pub(crate) fn new(history: &'a History, keyspace: &'a Keyspace, compacted: i64, revision: i64) -> Self {
        let places = history.start(revision)..history.changes.len();
        Self { rest: Changes { history, keyspace, compacted, places } }
    }
}

impl<'a> Iterator for Since<'a> {
    type Item = Changes<'a>;

    fn next(&mut self) -> Option<Changes<'a>> {
        let Range { start, end } = self.rest.places.clone();
        let revision = self.rest.history.changes.get(start)?.mod_revision;
        let same = self.rest.records().take_while(|record| record.mod_revision == revision).count();
        self.rest.places = start + same..end;
        Some(Changes { places: start..start + same, ..self.rest.clone() })
    }
}

/// The keys that a command has changed.
#[derive(Clone, Debug, Default)]
pub struct Changed(pub(crate) Vec<Record>);

impl Changed {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of the changes.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.0.iter().map(Record::key)
    }
}
