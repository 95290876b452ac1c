//! The words of the store: a key with its value and revisions, and the event of its change.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point in the store's history: `main` counts changing requests, `sub` the changes inside one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

/// One version of a key, with etcd's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the put that made the key exist.
    pub create_revision: i64,
    /// Revision of this version.
    pub mod_revision: i64,
    /// Number of puts since the key came to exist; 0 in the event of a deletion.
    pub version: i64,
    /// The lease the key is attached to, or 0.
    pub lease: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key. For a deletion `kv` holds only the key and the revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    /// The key as it was before this revision; `None` when it did not exist, or when that version has been compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// True for the put that made the key exist.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}
