//! etcd's HashKV: one number for the kept history, equal on every replica, and on an etcd with the same history.
//!
//! It must follow etcd's own byte layout (`server/storage/mvcc/hash.go`): CRC-32C over the bucket's name and then, for every
//! kept version in order of revision, the 17 or 18 bytes that name it and its `mvccpb.KeyValue`.

use crate::Revision;
use crate::keyspace::Keyspace;
use crate::stored::{Record, Versions};

/// The answer to HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// As etcd reports it: -1 while nothing has been compacted.
    pub compact_revision: i64,
    /// Up to which revision was hashed.
    pub hash_revision: i64,
    /// The store's revision, for the header.
    pub revision: i64,
}

/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();
const BUCKET: &[u8] = b"key";

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut value = byte;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte as usize] = value;
        byte += 1;
    }
    table
}

struct Crc32c(u32);

impl Crc32c {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 >> 8) ^ TABLE[usize::from(self.0.to_le_bytes()[0] ^ byte)];
        }
    }
}

/// A hash that is still to be computed: it holds what it is of, so it needs the store no more.
#[derive(Clone, Debug)]
pub struct Hashing {
    pub(crate) kept: Vec<Record>,
    pub(crate) compact_revision: i64,
    pub(crate) hash_revision: i64,
    pub(crate) revision: i64,
}

impl Hashing {
    /// Reads every byte that is kept: a second for some hundreds of megabytes.
    pub fn finish(mut self) -> HashKv {
        self.kept.sort_unstable_by_key(|record| record.place());
        let mut crc = Crc32c(!0);
        crc.write(BUCKET);
        let mut text = Vec::new();
        for record in &self.kept {
            name(record.place(), record.is_deletion(), &mut text);
            crc.write(&text);
            encode(record, &mut text);
            crc.write(&text);
        }
        let Self { compact_revision, hash_revision, revision, .. } = self;
        HashKv { hash: !crc.0, compact_revision, hash_revision, revision }
    }
}

/// What is kept up to a revision, after a compaction at another, as etcd chooses it for its hash.
pub(crate) fn kept(keyspace: &Keyspace, compacted: i64, upto: i64) -> Vec<Record> {
    let newest = |records: &[Record]| -> Option<Revision> {
        let newest = records.iter().rev().find(|record| record.mod_revision <= upto)?;
        (!newest.is_deletion()).then(|| newest.place())
    };
    // Of what the last compaction left, etcd counts what can be seen at `upto`; all of it, if nothing can.
    let all = !keyspace.histories().any(|versions| newest(versions.as_slice()).is_some());
    let mut kept = Vec::new();
    for records in keyspace.histories().map(Versions::as_slice) {
        let seen = newest(records);
        for record in records {
            let at = record.place();
            let is_boundary = record.is_deletion() && at.main == compacted;
            if at.main <= upto && (at.main > compacted || Some(at) == seen || (all && !is_boundary)) {
                kept.push(record.clone());
            }
        }
    }
    kept
}

/// The key under which etcd's backend holds a version.
fn name(at: Revision, deleted: bool, text: &mut Vec<u8>) {
    text.clear();
    text.extend(at.main.to_be_bytes());
    text.push(b'_');
    text.extend(at.sub.to_be_bytes());
    text.extend(deleted.then_some(b't'));
}

/// `mvccpb.KeyValue` as Go marshals it: fields in order, none that is zero. A deletion holds its key only.
fn encode(record: &Record, text: &mut Vec<u8>) {
    text.clear();
    bytes(1, record.key(), text);
    if record.is_deletion() {
        return;
    }
    number(2, record.create_revision, text);
    number(3, record.mod_revision, text);
    number(4, record.version, text);
    bytes(5, record.value(), text);
    number(6, record.lease, text);
}

fn bytes(field: u8, value: &[u8], text: &mut Vec<u8>) {
    if !value.is_empty() {
        text.push(field << 3 | 2);
        varint(value.len() as u64, text);
        text.extend(value);
    }
}

fn number(field: u8, value: i64, text: &mut Vec<u8>) {
    if value != 0 {
        text.push(field << 3);
        varint(value.cast_unsigned(), text);
    }
}

fn varint(mut value: u64, text: &mut Vec<u8>) {
    while value >= 0x80 {
        text.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    text.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        let mut crc = Crc32c(!0);
        crc.write(b"123456789");
        assert_eq!(!crc.0, 0xe306_9283, "the check value of CRC-32C (RFC 3720, B.4)");
    }
}
