//! One step of a sequence, as protobuf that both servers get; revisions are relative until `resolve`.

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnRequest};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact(i64),
    Grant {
        id: i64,
        ttl: i64,
    },
    /// The servers choose the id; what they choose is compared for nothing but being positive, and revoked at once.
    GrantAny {
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    TimeToLive {
        id: i64,
        keys: bool,
    },
    KeepAlive {
        id: i64,
    },
    Leases,
    HashKv(i64),
    Watch(Watch),
    /// Cancels the n-th watch (modulo their number), or one that never was.
    Cancel {
        nth: Option<usize>,
    },
    Progress,
}

#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
    pub(crate) start_revision: i64,
    pub(crate) filters: Vec<i32>,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) id: i64,
}
