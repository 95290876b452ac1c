//! The words of a read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{KeyRange, KeyValue};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// A read of one key or a range. `Default` reads nothing useful: start from [`RangeRequest::get`] or
/// [`RangeRequest::prefix`] and set fields with `..`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// At most so many keys; 0 for all.
    pub limit: i64,
    /// Read as of this revision; 0 (or less) for now.
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    /// Read this replica's state without asking the leader. Ignored inside a transaction.
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    /// Filters; 0 for none. They do not change `count`, as in etcd.
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

impl RangeRequest {
    /// Read one key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self { range: KeyRange::single(key), ..Self::default() }
    }

    /// Read every key with a prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { range: KeyRange::prefix(prefix), ..Self::default() }
    }

    /// True when keys may have to be dropped after the range is read, so a limit cannot be pushed down.
    pub(crate) fn has_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when it was read (not the one asked for), as etcd's header shows it.
    pub revision: i64,
    /// In byte order of the keys unless another order was asked for.
    pub kvs: Vec<KeyValue>,
    /// True when the limit cut the answer off.
    pub more: bool,
    /// How many keys the range holds, whatever the limit and the filters.
    pub count: i64,
}
