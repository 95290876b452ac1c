//! Histories of transactions, nested ones too, against the model that keeps a whole map of every revision.

use bytes::Bytes;
use mesh_store::fuzz::{Input, assert_whole};
use mesh_store_mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyRange, PutRequest, RangeRequest, State,
    TxnOp, TxnRequest,
};

use crate::reference::{Model, assert_same};

/// More would only be slow.
const MOST: usize = 24;
const DEEPEST: usize = 3;
const KEYS: [&str; 8] = ["a", "a/1", "a/2", "b", "b/1", "c", "\u{7f}", "z"];

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mut state, mut model) = (State::default(), Model::new());
    let queries = [RangeRequest::prefix(""), query(&mut input), query(&mut input)];
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let command = command(&mut input);
        let reads = match &command {
            Command::Txn(request) if request.is_read_only() => Some(state.read_txn(request)),
            _ => None,
        };
        let result = state.apply(&command).result;
        assert_eq!(result, model.apply(&command), "{command:?}");
        if let Some(read) = reads {
            let read = read.map(mesh_store_mvcc::Response::Txn);
            assert_eq!(read, result, "a transaction that only reads is answered alike with and without the log");
        }
        assert_same(&state, &model, &queries);
    }
    assert_whole(&state);
    assert_same(&State::restore(state.image()), &model, &queries);
}

fn command(input: &mut Input<'_>) -> Command {
    match input.below(12) {
        0..6 => Command::Txn(txn(input, 0)),
        6..8 => Command::Put(put(input)),
        8 => Command::DeleteRange(delete(input)),
        9 => Command::LeaseGrant { id: 1 + i64::from(input.byte() % 3), ttl: 10 },
        10 => Command::LeaseRevoke { id: 1 + i64::from(input.byte() % 3) },
        _ => Command::Compact { revision: revision(input) },
    }
}

fn txn(input: &mut Input<'_>, depth: usize) -> TxnRequest {
    let shape = input.byte();
    let compare = (0..shape % 3).map(|_| compare(input)).collect();
    let success = (0..(shape >> 2) % 5).map(|_| op(input, depth)).collect();
    let failure = (0..(shape >> 5) % 4).map(|_| op(input, depth)).collect();
    TxnRequest { compare, success, failure }
}

fn op(input: &mut Input<'_>, depth: usize) -> TxnOp {
    match input.below(8) {
        0..3 => TxnOp::Put(put(input)),
        3 => TxnOp::DeleteRange(delete(input)),
        4 | 5 => TxnOp::Range(query(input)),
        _ if depth < DEEPEST => TxnOp::Txn(txn(input, depth + 1)),
        _ => TxnOp::Put(put(input)),
    }
}

fn compare(input: &mut Input<'_>) -> Compare {
    let results = [
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
        CompareResult::Unknown,
    ];
    let result = results[input.below(results.len())];
    let target = match input.below(6) {
        0 => CompareTarget::Version(i64::from(input.byte() % 4)),
        1 => CompareTarget::CreateRevision(revision(input)),
        2 => CompareTarget::ModRevision(revision(input)),
        3 => CompareTarget::Value(value(input)),
        4 => CompareTarget::Lease(i64::from(input.byte() % 4)),
        _ => CompareTarget::Unknown,
    };
    Compare { range: range(input), result, target }
}

fn put(input: &mut Input<'_>) -> PutRequest {
    let how = input.byte();
    let (ignore_value, ignore_lease) = (how & 0b111 == 0b111, how & 0b11_1000 == 0b11_1000);
    PutRequest {
        key: key(input),
        value: if ignore_value { Bytes::new() } else { value(input) },
        lease: if ignore_lease || how & 64 == 0 { 0 } else { 1 + i64::from(input.byte() % 3) },
        prev_kv: how & 128 != 0,
        ignore_value,
        ignore_lease,
    }
}

fn delete(input: &mut Input<'_>) -> DeleteRangeRequest {
    DeleteRangeRequest { range: range(input), prev_kv: input.is_one_in(2) }
}

fn query(input: &mut Input<'_>) -> RangeRequest {
    let how = input.byte();
    RangeRequest {
        range: range(input),
        limit: i64::from(how & 3),
        keys_only: how & 4 != 0,
        count_only: how & 0b1_1000 == 0b1_1000,
        revision: if how & 32 == 0 { 0 } else { revision(input) },
        ..RangeRequest::default()
    }
}

fn range(input: &mut Input<'_>) -> KeyRange {
    match input.below(8) {
        0..4 => KeyRange::single(key(input)),
        4 => KeyRange::prefix(key(input)),
        5 => KeyRange::from_key(key(input)),
        6 => KeyRange::all(),
        _ => KeyRange::new(key(input), key(input)),
    }
}

fn key(input: &mut Input<'_>) -> Bytes {
    Bytes::from(KEYS[input.below(KEYS.len())])
}

fn value(input: &mut Input<'_>) -> Bytes {
    Bytes::from((input.byte() % 4).to_string())
}

/// From before the first to after the last that so few commands make.
fn revision(input: &mut Input<'_>) -> i64 {
    i64::from(input.byte() % 32) - 2
}

/// Puts, then transactions of each shape; the rest is the fuzzer's to find.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let queries = [0, 6, 0, 36, 6, 5];
    let puts: Vec<u8> = (0..8).flat_map(|key| [6, 128, key, key]).collect();
    let txn = |shape: u8, rest: &[u8]| [&[0, shape], rest].concat();
    let start = [&queries[..], &puts].concat();
    vec![
        [&start[..], &txn(0b0010_0101, &[0, 0, 1, 0, 0, 0, 128, 3, 2])].concat(),
        [&start[..], &txn(0b0000_1000, &[3, 4, 1, 0, 0, 6, 1])].concat(),
        [&start[..], &txn(0b0000_0100, &[6, 0b0000_1001, 1, 0, 2, 0, 0, 0, 0, 1, 0, 6, 1])].concat(),
        [&start[..], &[9, 0, 6, 64, 1, 1, 0, 10, 0, 11, 7], &txn(0b0000_0100, &[4, 0, 6])].concat(),
    ]
}
