//! A sequence of operations from a seed: every kind of request with every option, valid and not.

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest,
    PbTxnRequestOp,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::op::{Op, Watch};
use crate::pick::{LEASES, Pick};
use crate::resolve::{FLOOR, NOW};

pub(crate) fn sequence(seed: u64, ops: u64) -> Vec<Op> {
    let mut pick = Pick(StdRng::seed_from_u64(seed));
    (0..ops).map(|_| op(&mut pick)).collect()
}

fn op(pick: &mut Pick) -> Op {
    match pick.below(200) {
        0..60 if pick.one_in(300) => Op::Put(large(pick)),
        0..60 => Op::Put(put(pick, true)),
        60..100 => Op::Range(range(pick)),
        100..115 => Op::Delete(delete(pick)),
        115..165 => {
            let open_deletes = pick.one_in(4);
            Op::Txn(txn(pick, Shape { open_deletes, depth: 0 }))
        }
        165..168 => Op::Compact(compaction(pick)),
        168..174 => Op::Grant { id: pick.of(&LEASES), ttl: pick.of(&[0, -5, 100, 20_000, 4_000_000, 9_000_000_001]) },
        174 => Op::GrantAny { ttl: pick.of(&[-1, 60, 9_000_000_000, 9_000_000_001]) },
        175..178 => Op::Revoke { id: pick.of(&LEASES) },
        178..182 => Op::TimeToLive { id: pick.of(&LEASES), keys: pick.one_in(2) },
        182 => Op::KeepAlive { id: pick.of(&LEASES) },
        183 => Op::Leases,
        184 => Op::HashKv(if pick.one_in(2) { 0 } else { NOW + 1 - i64::try_from(pick.below(12)).unwrap_or(0) }),
        185..193 => Op::Watch(watch(pick)),
        193..197 => Op::Cancel { nth: (!pick.one_in(4)).then(|| pick.below(16)) },
        _ => Op::Progress,
    }
}

fn put(pick: &mut Pick, may_ignore: bool) -> PbPutRequest {
    let ignore_value = may_ignore && pick.one_in(10);
    let ignore_lease = may_ignore && pick.one_in(10);
    PbPutRequest {
        key: pick.key(),
        value: if ignore_value && !pick.one_in(5) { Vec::new() } else { pick.value() },
        lease: if ignore_lease && !pick.one_in(5) { 0 } else { pick.lease() },
        prev_kv: pick.one_in(3),
        ignore_value,
        ignore_lease,
    }
}

/// Just below the size that is taken, and just above; where exactly the line runs depends on the member's number.
fn large(pick: &mut Pick) -> PbPutRequest {
    let bytes = pick.of(&[1_572_864 - 100, 1_572_864]);
    PbPutRequest { value: vec![b'l'; bytes], ..put(pick, false) }
}

fn range(pick: &mut Pick) -> PbRangeRequest {
    let (key, range_end) = pick.range();
    PbRangeRequest {
        key,
        range_end,
        limit: if pick.one_in(3) { pick.of(&[1, 2, 3, 7, -1, i64::MAX]) } else { 0 },
        revision: pick.revision(),
        sort_order: if pick.one_in(3) { pick.of(&[0, 1, 1, 2, 2, 3, -1]) } else { 0 },
        sort_target: if pick.one_in(3) { pick.of(&[0, 1, 2, 3, 4, 4, 3, 2, 1, 5, -1]) } else { 0 },
        serializable: pick.one_in(3),
        keys_only: pick.one_in(5),
        count_only: pick.one_in(6),
        min_mod_revision: pick.bound(),
        max_mod_revision: pick.bound(),
        min_create_revision: pick.bound(),
        max_create_revision: pick.bound(),
    }
}

fn delete(pick: &mut Pick) -> PbDeleteRequest {
    let (key, range_end) = pick.range();
    PbDeleteRequest { key, range_end, prev_kv: pick.one_in(2) }
}

/// etcd does not see that a deletion of everything from a key on meets a put of the same transaction. A put that keeps a
/// value which was deleted so brings etcd down ("unexpected error during txn with writes"), which no answer can equal: so
/// a transaction has either such deletions or such puts.
#[derive(Clone, Copy)]
struct Shape {
    open_deletes: bool,
    depth: usize,
}

fn txn(pick: &mut Pick, shape: Shape) -> PbTxnRequest {
    let compares = if pick.one_in(400) { 129 } else { pick.below(3) };
    PbTxnRequest {
        compare: (0..compares).map(|_| compare(pick)).collect(),
        success: branch(pick, shape),
        failure: branch(pick, shape),
    }
}

fn branch(pick: &mut Pick, shape: Shape) -> Vec<PbTxnRequestOp> {
    let count = if pick.one_in(400) { 129 } else { pick.below(4) };
    (0..count)
        .map(|_| {
            let request = match pick.below(20) {
                0..5 => Some(PbTxnOpRequest::RequestRange(range(pick))),
                5..13 => Some(PbTxnOpRequest::RequestPut(put(pick, !shape.open_deletes))),
                13..16 => Some(PbTxnOpRequest::RequestDeleteRange(delete_in_txn(pick, shape))),
                16..19 if shape.depth < 3 => {
                    Some(PbTxnOpRequest::RequestTxn(txn(pick, Shape { depth: shape.depth + 1, ..shape })))
                }
                _ if pick.one_in(30) => None,
                _ => Some(PbTxnOpRequest::RequestPut(put(pick, false))),
            };
            PbTxnRequestOp { request }
        })
        .collect()
}

fn delete_in_txn(pick: &mut Pick, shape: Shape) -> PbDeleteRequest {
    let mut request = delete(pick);
    if !shape.open_deletes && request.range_end == b"\0" {
        request.range_end = b"z".to_vec();
    }
    request
}

fn compare(pick: &mut Pick) -> PbCompare {
    let (key, range_end) = pick.range();
    let target = pick.of(&[0, 1, 2, 3, 4]);
    let named = if pick.one_in(12) { pick.of(&[0, 1, 2, 3, 4, 5]) } else { target };
    let target_union = match named {
        0 => Some(PbTargetUnion::Version(pick.of(&[0, 1, 2, 3]))),
        1 => Some(PbTargetUnion::CreateRevision(pick.revision())),
        2 => Some(PbTargetUnion::ModRevision(pick.revision())),
        3 => Some(PbTargetUnion::Value(pick.value())),
        4 => Some(PbTargetUnion::Lease(pick.lease())),
        _ => None,
    };
    PbCompare {
        result: if pick.one_in(50) { pick.of(&[4, -1]) } else { pick.of(&[0, 1, 2, 3]) },
        target: if pick.one_in(50) { pick.of(&[5, -1]) } else { target },
        key,
        range_end,
        target_union,
    }
}

fn compaction(pick: &mut Pick) -> i64 {
    match pick.below(10) {
        0 => pick.of(&[-1, 0, FLOOR, FLOOR - 1, NOW + 1]),
        1 | 2 => NOW,
        3 => FLOOR + 1,
        _ => NOW - 1 - i64::try_from(pick.below(40)).unwrap_or(0),
    }
}

fn watch(pick: &mut Pick) -> Watch {
    let (key, range_end) = pick.range();
    Watch {
        key,
        range_end,
        start_revision: match pick.below(10) {
            0..6 => 0,
            6 => NOW - i64::try_from(pick.below(30)).unwrap_or(0),
            7 => FLOOR - 1 + i64::try_from(pick.below(3)).unwrap_or(0),
            8 => NOW + 1 + i64::try_from(pick.below(20)).unwrap_or(0),
            _ => pick.of(&[-1, 1]),
        },
        filters: if pick.one_in(4) { vec![pick.of(&[0, 1, 7])] } else { Vec::new() },
        prev_kv: pick.one_in(2),
        fragment: pick.one_in(4),
        id: if pick.one_in(4) { pick.of(&[1, 2, 3, -4]) } else { 0 },
    }
}
