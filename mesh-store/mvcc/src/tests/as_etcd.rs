//! What the differential test against a real etcd taught: each rule once, as the smallest case that shows it.

use super::*;

fn in_txn(ops: Vec<TxnOp>) -> Command {
    txn(TxnRequest { success: ops, ..TxnRequest::default() })
}

fn from_key(key: &'static str) -> TxnOp {
    TxnOp::DeleteRange(DeleteRangeRequest { range: KeyRange::from_key(key), prev_kv: false })
}

#[test]
fn a_put_alone_asks_for_the_lease_first_and_in_a_transaction_for_the_key() {
    let mut state = State::default();
    let put = PutRequest { lease: 7, ignore_value: true, ..PutRequest::new("a", "") };
    assert_eq!(refusal(&mut state, Command::Put(put.clone())), Error::LeaseNotFound);
    assert_eq!(refusal(&mut state, in_txn(vec![TxnOp::Put(put)])), Error::KeyNotFound);
}

#[test]
fn an_empty_store_can_be_compacted_at_zero_once() {
    let mut state = State::default();
    assert_eq!(refusal(&mut state, Command::Compact { revision: -1 }), Error::Compacted { compact_revision: 0 });
    assert_eq!(ok(&mut state, Command::Compact { revision: 0 }), Response::Compact { revision: 1 });
    assert_eq!(refusal(&mut state, Command::Compact { revision: 0 }), Error::Compacted { compact_revision: 0 });
    assert_eq!(refusal(&mut state, Command::Compact { revision: 2 }), Error::FutureRevision);
}

#[test]
fn a_negative_revision_is_now_alone_and_compacted_in_a_transaction() {
    let mut state = filled(&["a"]);
    let at = |revision| RangeRequest { revision, ..RangeRequest::get("a") };
    assert_eq!(state.range(&at(-2)).unwrap().count, 1);
    let read = |revision| TxnRequest { success: vec![TxnOp::Range(at(revision))], ..TxnRequest::default() };
    assert_eq!(state.read_txn(&read(-2)), Err(Error::Compacted { compact_revision: 0 }));
    assert!(state.read_txn(&read(-1)).is_ok());
    ok(&mut state, Command::Compact { revision: 1 });
    assert_eq!(state.read_txn(&read(-1)), Err(Error::Compacted { compact_revision: 1 }));
    let write = vec![TxnOp::Range(at(-1)), TxnOp::Put(PutRequest::new("b", ""))];
    assert_eq!(refusal(&mut state, in_txn(write)), Error::Compacted { compact_revision: 1 });
}

#[test]
fn a_deletion_without_an_end_meets_no_put_of_its_transaction() {
    let mut state = filled(&["a", "b"]);
    let applied = state.apply(in_txn(vec![from_key("a"), TxnOp::Put(PutRequest::new("b", "new"))]));
    assert!(applied.result.is_ok());
    let kv = state.get(b"b").unwrap();
    assert_eq!((kv.create_revision, kv.version), (4, 1), "made anew");
    let shown = events(&state, 4);
    let kinds: Vec<_> = shown.iter().map(|event| (event.kind, &event.kv.key[..])).collect();
    assert_eq!(kinds, [(EventKind::Delete, &b"a"[..]), (EventKind::Delete, b"b"), (EventKind::Put, b"b")]);
    assert_eq!(shown[2].prev_kv, None, "nothing comes before what is new");
    assert_eq!(events(&State::restore(state.image()), 4), shown);
}

#[test]
fn a_compaction_at_a_revision_that_changed_a_key_twice_leaves_its_last_change() {
    let mut state = filled(&["b"]);
    ok(&mut state, in_txn(vec![TxnOp::Put(PutRequest::new("b", "new")), from_key("a")]));
    ok(&mut state, Command::Compact { revision: 3 });
    let shown = |state: &State| -> Vec<_> { events(state, 3).iter().map(|event| event.kind).collect() };
    assert_eq!(shown(&state), [EventKind::Delete]);
    assert_eq!(shown(&State::restore(state.image())), [EventKind::Delete]);
}

#[test]
fn what_a_transaction_has_deleted_cannot_be_kept_by_a_later_put_of_it() {
    let mut state = filled(&["b"]);
    let keep = TxnOp::Put(PutRequest { ignore_value: true, ..PutRequest::new("b", "") });
    assert_eq!(refusal(&mut state, in_txn(vec![from_key("a"), keep.clone()])), Error::KeyNotFound);
    assert!(state.apply(in_txn(vec![keep, from_key("a")])).result.is_ok());
}

#[test]
fn equal_values_stay_in_the_order_of_their_keys_in_both_directions() {
    let mut state = State::default();
    for key in ["c", "a", "b"] {
        ok(&mut state, put(key, "same"));
    }
    for sort_order in [SortOrder::Ascend, SortOrder::Descend] {
        let request = RangeRequest { sort_order, sort_target: SortTarget::Value, ..RangeRequest::prefix("") };
        assert_eq!(keys(&state.range(&request).unwrap()), [b"a", b"b", b"c"]);
    }
}

#[test]
fn words_that_are_not_known_compare_as_etcd_lets_them() {
    let mut state = filled(&["a"]);
    let compare = |result, target| TxnRequest {
        compare: vec![Compare { range: KeyRange::single("a"), result, target }],
        ..TxnRequest::default()
    };
    let cases = [
        (CompareResult::Unknown, CompareTarget::Version(9), true),
        (CompareResult::Equal, CompareTarget::Unknown, true),
        (CompareResult::Less, CompareTarget::Unknown, false),
    ];
    for (result, target, expected) in cases {
        let Response::Txn(response) = ok(&mut state, txn(compare(result, target))) else { panic!() };
        assert_eq!(response.succeeded, expected);
    }
}
