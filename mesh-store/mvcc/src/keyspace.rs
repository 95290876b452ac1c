//! Every kept version of every key, in byte order of the keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Event, EventKind, KeyRange, KeyValue, Revision};

/// One version of a key or its deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) kv: KeyValue,
    pub(crate) sub: i64,
    pub(crate) deleted: bool,
}

impl Record {
    fn live(&self) -> Option<&KeyValue> {
        (!self.deleted).then_some(&self.kv)
    }

    fn bytes(&self) -> usize {
        self.kv.key.len() + self.kv.value.len() + size_of::<Self>()
    }
}

/// # Invariants
/// The records of a key are ordered by revision and never empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyspace {
    keys: BTreeMap<Bytes, Vec<Record>>,
    live: usize,
    bytes: usize,
}

impl Keyspace {
    pub(crate) fn restore(keys: Vec<Vec<Record>>) -> Self {
        let mut keyspace = Self::default();
        for records in keys {
            let Some(last) = records.last() else { continue };
            keyspace.live += usize::from(!last.deleted);
            keyspace.bytes += records.iter().map(Record::bytes).sum::<usize>();
            keyspace.keys.insert(last.kv.key.clone(), records);
        }
        keyspace
    }

    /// Keys that exist now.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Roughly the memory that all versions take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn histories(&self) -> impl Iterator<Item = &Vec<Record>> + '_ {
        self.keys.values()
    }

    /// The key as of revision `at`.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        visible(self.keys.get(key)?, at)
    }

    /// The keys of a range as of revision `at`, in byte order.
    pub(crate) fn scan<'a>(&'a self, range: &KeyRange, at: i64) -> impl Iterator<Item = &'a KeyValue> + use<'a> {
        let keys = range.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        keys.into_iter().flatten().filter_map(move |(_, records)| visible(records, at))
    }

    /// Appends a version; its revision must be the newest.
    pub(crate) fn put(&mut self, kv: KeyValue, sub: i64) {
        self.append(Record { kv, sub, deleted: false });
    }

    /// Appends a deletion; its revision must be the newest.
    pub(crate) fn delete(&mut self, key: Bytes, at: Revision) {
        self.append(Record { kv: KeyValue::tombstone(key, at.main), sub: at.sub, deleted: true });
    }

    fn append(&mut self, record: Record) {
        self.bytes += record.bytes();
        let now_live = !record.deleted;
        let was_live = if let Some(records) = self.keys.get_mut(&record.kv.key) {
            let was_live = records.last().is_some_and(|last| !last.deleted);
            records.push(record);
            was_live
        } else {
            // Most keys have one version: a growing Vec would start with room for four.
            let mut records = Vec::with_capacity(1);
            let key = record.kv.key.clone();
            records.push(record);
            self.keys.insert(key, records);
            false
        };
        self.live = self.live + usize::from(now_live) - usize::from(was_live);
    }

    /// Drops the versions of `key` that no read at or above `revision` can see. What `revision` itself made of the key
    /// stays, a deletion too, because a watch may start there.
    pub(crate) fn trim(&mut self, key: &[u8], revision: i64) {
        let Some(records) = self.keys.get_mut(key) else { return };
        let reached = records.partition_point(|record| record.kv.mod_revision <= revision);
        let Some(newest) = records[..reached].last() else { return };
        let keep_newest = !newest.deleted || newest.kv.mod_revision == revision;
        let drop = reached - usize::from(keep_newest);
        self.bytes -= records.drain(..drop).map(|record| record.bytes()).sum::<usize>();
        if records.is_empty() {
            self.keys.remove(key);
        } else if records.capacity() > 2 * records.len() {
            records.shrink_to_fit();
        }
    }

    /// The events that the kept records of revisions from `first` on stand for, tagged with their place.
    pub(crate) fn events(&self, first: i64) -> Vec<(Revision, Event)> {
        let mut events = Vec::new();
        for records in self.keys.values() {
            let start = records.partition_point(|record| record.kv.mod_revision < first);
            for record in &records[start..] {
                let main = record.kv.mod_revision;
                let kind = if record.deleted { EventKind::Delete } else { EventKind::Put };
                let is_new = !record.deleted && record.kv.create_revision == main;
                let prev_kv = if main > first && !is_new { visible(records, main - 1).cloned() } else { None };
                events.push((Revision { main, sub: record.sub }, Event { kind, kv: record.kv.clone(), prev_kv }));
            }
        }
        events
    }
}

/// The last record at or before `at`, if it is not a deletion.
fn visible(records: &[Record], at: i64) -> Option<&KeyValue> {
    let newest = records.last()?;
    if newest.kv.mod_revision <= at {
        return newest.live();
    }
    let after = records.partition_point(|record| record.kv.mod_revision <= at);
    records[..after].last()?.live()
}
