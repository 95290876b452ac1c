//! Every kept version of every key, in byte order of the keys.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::KeyRange;
use crate::stored::{Record, Versions};

/// # Invariants
/// The versions of a key are ordered by revision and never empty, and the first one is what the map knows the key by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyspace {
    keys: BTreeMap<First, Versions>,
    live: usize,
    bytes: usize,
}

/// The first kept version of a key stands for the key, so that its bytes are held once.
#[derive(Clone, Debug)]
struct First(Record);

impl Borrow<[u8]> for First {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl PartialEq for First {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for First {}

impl PartialOrd for First {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for First {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl Keyspace {
    pub(crate) fn restore(keys: Vec<Versions>) -> Self {
        let mut keyspace = Self::default();
        for versions in keys {
            let (Some(first), Some(last)) = (versions.as_slice().first(), versions.as_slice().last()) else { continue };
            keyspace.live += usize::from(!last.is_deletion());
            keyspace.bytes += versions.as_slice().iter().map(Record::bytes).sum::<usize>();
            keyspace.keys.insert(First(first.clone()), versions);
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

    pub(crate) fn histories(&self) -> impl Iterator<Item = &Versions> + '_ {
        self.keys.values()
    }

    /// The key as of revision `at`.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<&Record> {
        self.keys.get(key)?.visible(at)
    }

    /// The keys of a range as of revision `at`, in byte order.
    pub(crate) fn scan<'a>(&'a self, range: &KeyRange, at: i64) -> impl Iterator<Item = &'a Record> + use<'a> {
        let keys = range.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        keys.into_iter().flatten().filter_map(move |(_, versions)| versions.visible(at))
    }

    /// Appends a version or a deletion; its revision must be the newest.
    pub(crate) fn append(&mut self, record: Record) {
        self.bytes += record.bytes();
        let now_live = !record.is_deletion();
        let was_live = if let Some(versions) = self.keys.get_mut(record.key()) {
            let was_live = versions.as_slice().last().is_some_and(|last| !last.is_deletion());
            versions.push(record);
            was_live
        } else {
            self.keys.insert(First(record.clone()), Versions::One(record));
            false
        };
        self.live = self.live + usize::from(now_live) - usize::from(was_live);
    }

    /// Drops the versions of `key` that no read at or above `revision` can see. What `revision` itself made of the key
    /// stays, a deletion too, because a watch may start there.
    pub(crate) fn trim(&mut self, key: &[u8], revision: i64) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let reached = versions.as_slice().partition_point(|record| record.mod_revision <= revision);
        let Some(newest) = versions.as_slice()[..reached].last() else { return };
        let keep_newest = !newest.is_deletion() || newest.mod_revision == revision;
        let drop = reached - usize::from(keep_newest);
        if drop == 0 {
            return;
        }
        self.bytes -= versions.as_slice()[..drop].iter().map(Record::bytes).sum::<usize>();
        // What the map knows the key by goes too.
        let Some(versions) = self.keys.remove(key).and_then(|versions| versions.without_first(drop)) else { return };
        if let Some(first) = versions.as_slice().first() {
            self.keys.insert(First(first.clone()), versions);
        }
    }
}
