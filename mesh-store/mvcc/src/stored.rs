//! A version of a key as it is kept in memory: as small as it can be, since there are millions.
//!
//! Key and value share one piece of memory, and a version is held once, by its key and by the history alike. What leaves
//! the crate is a [`KeyValue`] made on the spot.

use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::ThinArc;

use crate::{KeyValue, LeaseId, Revision};

/// One version of a key or its deletion: one piece of memory with the fields, then the key, then the value. A clone is the
/// same piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record(ThinArc<Fields, u8>);

/// What a version is, beside its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    key_len: u32,
    sub: u32,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    /// 0 for a deletion.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

/// What a version takes beside its bytes: the fields, two counts, the allocator's part, and its places in the key's map and
/// the history.
const OVERHEAD: usize = size_of::<Fields>() + 2 * size_of::<usize>() + 8 + 40 + 8;

impl Fields {
    /// Of a key that did not exist.
    pub(crate) fn put(at: Revision) -> Self {
        Self { version: 1, create_revision: at.main, ..Self::deletion(at) }
    }

    pub(crate) fn deletion(at: Revision) -> Self {
        let sub = small(usize::try_from(at.sub).unwrap_or(usize::MAX));
        Self { key_len: 0, sub, create_revision: 0, mod_revision: at.main, version: 0, lease: 0 }
    }

    pub(crate) fn is_deletion(&self) -> bool {
        self.version == 0
    }

    /// True for the put that made the key exist.
    pub(crate) fn is_create(&self) -> bool {
        !self.is_deletion() && self.create_revision == self.mod_revision
    }

    pub(crate) fn place(&self) -> Revision {
        Revision { main: self.mod_revision, sub: i64::from(self.sub) }
    }
}

impl Deref for Record {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.0.header.header
    }
}

impl Record {
    pub(crate) fn new(fields: Fields, key: &[u8], value: &[u8]) -> Self {
        let fields = Fields { key_len: small(key.len()), ..fields };
        Self(ThinArc::from_header_and_slice(fields, &[key, value].concat()))
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0.slice[..self.key_len as usize]
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.0.slice[self.key_len as usize..]
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.slice.len() + OVERHEAD
    }

    /// The value is the record's own; the key is copied, since whoever keeps a key should not keep the value of that day.
    pub(crate) fn key_value(&self) -> KeyValue {
        let value = if self.value().is_empty() { Bytes::new() } else { Bytes::from_owner(Value(self.clone())) };
        KeyValue { value, ..self.without_value() }
    }

    pub(crate) fn without_value(&self) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key()),
            value: Bytes::new(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// A record that is held for its value.
struct Value(Record);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// Lengths and numbers inside a revision are bounded by the size of a request, which is far below 4 GiB.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("a request is smaller than 4 GiB")
}

/// The kept versions of one key; most keys have one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::box_collection, reason = "the second variant is rare, and must not make the first one larger")]
pub(crate) enum Versions {
    One(Record),
    Many(Box<Vec<Record>>),
}

impl Versions {
    pub(crate) fn as_slice(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }

    pub(crate) fn push(&mut self, record: Record) {
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![first.clone(), record])),
            Self::Many(records) => records.push(record),
        }
    }

    /// What is left; `None` when nothing is.
    pub(crate) fn without_first(self, count: usize) -> Option<Self> {
        let left = self.as_slice().get(count..)?;
        match left {
            [] => None,
            [only] => Some(Self::One(only.clone())),
            _ => Some(Self::Many(Box::new(left.to_vec()))),
        }
    }

    /// The last version at or before `at`, if it is not a deletion.
    pub(crate) fn visible(&self, at: i64) -> Option<&Record> {
        let records = self.as_slice();
        let newest = records.last()?;
        let seen = if newest.mod_revision <= at {
            newest
        } else {
            records[..records.partition_point(|record| record.mod_revision <= at)].last()?
        };
        (!seen.is_deletion()).then_some(seen)
    }
}

/// How a version is written into a snapshot.
#[derive(Deserialize)]
struct Written {
    kv: KeyValue,
    sub: i64,
    deleted: bool,
}

#[derive(Serialize)]
struct Writing<'a> {
    kv: KvWriting<'a>,
    sub: i64,
    deleted: bool,
}

#[derive(Serialize)]
struct KvWriting<'a> {
    key: Raw<'a>,
    value: Raw<'a>,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
}

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kv = KvWriting {
            key: Raw(self.key()),
            value: Raw(self.value()),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        };
        Writing { kv, sub: i64::from(self.sub), deleted: self.is_deletion() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { kv, sub, deleted } = Written::deserialize(deserializer)?;
        let at = Revision { main: kv.mod_revision, sub };
        if kv.key.len() + kv.value.len() > u32::MAX as usize
            || u32::try_from(sub).is_err()
            || deleted != (kv.version == 0)
        {
            return Err(serde::de::Error::custom("a version that no store can have written"));
        }
        let fields = Fields {
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            ..Fields::deletion(at)
        };
        Ok(Self::new(fields, &kv.key, &kv.value))
    }
}

impl Serialize for Versions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let records: Vec<Record> = Vec::deserialize(deserializer)?;
        Ok(match &records[..] {
            [only] => Self::One(only.clone()),
            _ => Self::Many(Box::new(records)),
        })
    }
}
