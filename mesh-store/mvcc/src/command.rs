//! What can be asked to change, and what comes back. These values are what the Raft log holds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Alarm, AlarmAction, KeyRange, KeyValue, LeaseId, RangeRequest, RangeResponse};

/// One change of the store, as it is replicated.
///
/// Expiry of a lease is decided outside (it needs a clock) and arrives as `LeaseRevoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    /// Forget what can only be read at revisions below this one.
    Compact {
        revision: i64,
    },
    /// `id` 0 lets the store choose. `ttl` in seconds.
    LeaseGrant {
        id: LeaseId,
        ttl: i64,
    },
    /// Ends a lease and deletes its keys.
    LeaseRevoke {
        id: LeaseId,
    },
    Alarm {
        action: AlarmAction,
        alarm: Alarm,
    },
}

impl Command {
    /// Roughly the bytes that the command carries, for those who bound batches.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 32;
        match self {
            Self::Put(request) => FIXED + request.key.len() + request.value.len(),
            Self::DeleteRange(request) => FIXED + request.range.key.len() + request.range.range_end.len(),
            Self::Txn(request) => request.weight(),
            Self::Compact { .. } | Self::LeaseGrant { .. } | Self::LeaseRevoke { .. } | Self::Alarm { .. } => FIXED,
        }
    }
}

/// The answer to a [`Command`], of the same variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact {
        revision: i64,
    },
    LeaseGrant(LeaseGranted),
    LeaseRevoke {
        revision: i64,
    },
    /// The alarm that is now raised, or was and is so no longer.
    Alarm {
        revision: i64,
        alarm: Option<Alarm>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    /// Attach the key to this lease; 0 for none.
    pub lease: LeaseId,
    /// Answer with the key as it was.
    pub prev_kv: bool,
    /// Keep the present value (the key must exist).
    pub ignore_value: bool,
    /// Keep the present lease (the key must exist).
    pub ignore_lease: bool,
}

impl PutRequest {
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    pub revision: i64,
    pub prev_kv: Option<KeyValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeRequest {
    pub range: KeyRange,
    /// Answer with the keys as they were.
    pub prev_kv: bool,
}

impl DeleteRangeRequest {
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { range: KeyRange::single(key), prev_kv: false }
    }

    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { range: KeyRange::prefix(prefix), prev_kv: false }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    pub revision: i64,
    pub deleted: i64,
    pub prev_kvs: Vec<KeyValue>,
}

/// If all of `compare` hold then `success`, else `failure`, as one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<TxnOp>,
    pub failure: Vec<TxnOp>,
}

impl TxnRequest {
    /// Roughly the bytes that the request carries.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 48;
        let compares = self.compare.iter().map(|compare| {
            let value = if let CompareTarget::Value(value) = &compare.target { value.len() } else { 0 };
            FIXED + compare.range.key.len() + value
        });
        let ops = self.success.iter().chain(&self.failure).map(|op| match op {
            TxnOp::Range(request) => FIXED + request.range.key.len() + request.range.range_end.len(),
            TxnOp::Put(request) => FIXED + request.key.len() + request.value.len(),
            TxnOp::DeleteRange(request) => FIXED + request.range.key.len() + request.range.range_end.len(),
            TxnOp::Txn(request) => request.weight(),
        });
        compares.chain(ops).sum::<usize>() + FIXED
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    pub revision: i64,
    pub succeeded: bool,
    /// One for each operation of the branch that was taken.
    pub responses: Vec<TxnOpResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOpResponse {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
}

/// A condition on every key of a range. A key that does not exist compares as all zeroes, but never by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    pub range: KeyRange,
    pub result: CompareResult,
    pub target: CompareTarget,
}

impl Compare {
    /// Holds while `key` does not exist.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self { range: KeyRange::single(key), result: CompareResult::Equal, target: CompareTarget::CreateRevision(0) }
    }

    /// Holds while `key` was last changed at `revision` (0: while it does not exist).
    pub fn mod_revision(key: impl Into<Bytes>, revision: i64) -> Self {
        Self {
            range: KeyRange::single(key),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(revision),
        }
    }

    /// Holds while `key` was created at `revision`: the fence of a singleton role.
    pub fn create_revision(key: impl Into<Bytes>, revision: i64) -> Self {
        Self {
            range: KeyRange::single(key),
            result: CompareResult::Equal,
            target: CompareTarget::CreateRevision(revision),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
    /// A word that this version does not know: holds for every key there is, as in etcd.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
    Lease(LeaseId),
    /// A word that this version does not know: every key compares as equal, as in etcd.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGranted {
    pub revision: i64,
    pub id: LeaseId,
    /// Seconds, as granted: at least the store's minimum.
    pub ttl: i64,
}
