//! An input is a list of requests: a byte for the kind, two for the length, then protobuf.

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest,
    PbTxnRequestOp,
};
use mesh_store_mvcc::{Alarm, AlarmAction, AlarmKind, Command};
use prost::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Range,
    Put,
    Delete,
    Txn,
    /// What has no body worth decoding: compaction, leases, alarms.
    Other,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Range, Self::Put, Self::Delete, Self::Txn, Self::Other];
}

/// More would only be slow.
const MOST: usize = 32;

pub(super) fn steps(mut bytes: &[u8]) -> Vec<(Kind, &[u8])> {
    let mut steps = Vec::new();
    while let [kind, low, high, rest @ ..] = bytes
        && steps.len() < MOST
    {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        steps.push((Kind::ALL[usize::from(*kind) % Kind::ALL.len()], &rest[..len]));
        bytes = &rest[len..];
    }
    steps
}

pub(super) fn other(body: &[u8]) -> Option<Command> {
    let [what, id, number, ..] = *body else { return None };
    let (id, number) = (i64::from(id), i64::from(number.cast_signed()));
    let kind = if id % 2 == 0 { AlarmKind::NoSpace } else { AlarmKind::Corrupt };
    let alarm = Alarm { kind, member_id: 1 };
    Some(match what % 5 {
        0 => Command::Compact { revision: number },
        1 => Command::LeaseGrant { id, ttl: number },
        2 => Command::LeaseRevoke { id },
        3 => Command::Alarm { action: AlarmAction::Raise, alarm },
        _ => Command::Alarm { action: AlarmAction::Disarm, alarm },
    })
}

fn step(kind: u8, body: &[u8], input: &mut Vec<u8>) {
    input.push(kind);
    input.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_le_bytes());
    input.extend(body);
}

/// Where the mutation starts when the corpus is empty: one input of each sort of request.
pub fn seeds() -> Vec<Vec<u8>> {
    let key = |key: &str| key.as_bytes().to_vec();
    let put = |name: &str| PbPutRequest { key: key(name), value: key("v"), ..PbPutRequest::default() };
    let leased = PbPutRequest { lease: 1, prev_kv: true, ..put("leased") };
    let keeps = PbPutRequest { ignore_value: true, ignore_lease: true, value: Vec::new(), ..put("a") };
    let range = PbRangeRequest {
        key: key("a"),
        range_end: key("z"),
        limit: 2,
        revision: 3,
        sort_order: 2,
        sort_target: 4,
        ..PbRangeRequest::default()
    };
    let delete = PbDeleteRequest { key: key("a"), range_end: vec![0], prev_kv: true };
    let op = |request| PbTxnRequestOp { request: Some(request) };
    let compare = PbCompare {
        result: 0,
        target: 3,
        key: key("a"),
        range_end: Vec::new(),
        target_union: Some(PbTargetUnion::Value(key("v"))),
    };
    let nested = PbTxnRequest {
        compare: vec![compare.clone()],
        success: vec![op(PbTxnOpRequest::RequestPut(keeps.clone()))],
        failure: vec![op(PbTxnOpRequest::RequestPut(put("b")))],
    };
    let txn = PbTxnRequest {
        compare: vec![compare],
        success: vec![
            op(PbTxnOpRequest::RequestDeleteRange(delete.clone())),
            op(PbTxnOpRequest::RequestRange(range.clone())),
            op(PbTxnOpRequest::RequestTxn(nested)),
            PbTxnRequestOp { request: None },
        ],
        failure: vec![op(PbTxnOpRequest::RequestPut(put("c"))), op(PbTxnOpRequest::RequestPut(put("c")))],
    };
    let mut all = Vec::new();
    step(4, &[1, 1, 60], &mut all);
    for request in [&put("a"), &put("b"), &leased, &keeps] {
        step(1, &request.encode_to_vec(), &mut all);
    }
    step(0, &range.encode_to_vec(), &mut all);
    step(3, &txn.encode_to_vec(), &mut all);
    step(4, &[0, 0, 3], &mut all);
    step(2, &delete.encode_to_vec(), &mut all);
    step(4, &[2, 1, 0], &mut all);
    let mut few = Vec::new();
    let unleased = PbPutRequest { lease: 9, ..put("unleased") };
    let unleased = PbTxnRequest { success: vec![op(PbTxnOpRequest::RequestPut(unleased))], ..PbTxnRequest::default() };
    let twice = PbTxnRequest { compare: Vec::new(), success: txn.failure.clone(), failure: Vec::new() };
    step(1, &put("a").encode_to_vec(), &mut few);
    step(3, &txn.encode_to_vec(), &mut few);
    step(3, &twice.encode_to_vec(), &mut few);
    step(3, &unleased.encode_to_vec(), &mut few);
    vec![all, few]
}
