//! Rules that single examples show best; the property test against a naive model is in `tests/model/`.

use bytes::Bytes;

use super::*;

mod as_etcd;
mod space;

fn put(key: &'static str, value: &'static str) -> Command {
    Command::Put(PutRequest::new(key, value))
}

fn delete(range: KeyRange) -> Command {
    Command::DeleteRange(DeleteRangeRequest { range, prev_kv: true })
}

fn ok(state: &mut State, command: Command) -> Response {
    state.apply(command).result.unwrap()
}

fn refusal(state: &mut State, command: Command) -> Error {
    let before = state.image();
    let applied = state.apply(command);
    assert!(applied.events.is_empty());
    assert_eq!(state.image(), before, "a refused command changed the state");
    applied.result.unwrap_err()
}

/// What a watch of everything shows from a revision on.
fn events(state: &State, revision: i64) -> Vec<Event> {
    state.history_since(revision).unwrap().flat_map(|changes| changes.events().collect::<Vec<_>>()).collect()
}

fn txn(request: TxnRequest) -> Command {
    Command::Txn(request)
}

fn filled(keys: &[&'static str]) -> State {
    let mut state = State::default();
    for key in keys {
        ok(&mut state, put(key, key));
    }
    state
}

fn keys(response: &RangeResponse) -> Vec<&[u8]> {
    response.kvs.iter().map(|kv| &kv.key[..]).collect()
}

#[test]
fn an_empty_store_is_at_revision_one_and_the_first_put_makes_two() {
    let mut state = State::default();
    assert_eq!(state.revision(), 1);
    assert_eq!(ok(&mut state, put("a", "1")), Response::Put(PutResponse { revision: 2, prev_kv: None }));
    let kv = state.get(b"a").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 2, 1));
}

#[test]
fn a_delete_that_finds_nothing_makes_no_revision() {
    let mut state = filled(&["a"]);
    let response = ok(&mut state, delete(KeyRange::prefix("x")));
    assert_eq!(response, Response::DeleteRange(DeleteRangeResponse { revision: 2, deleted: 0, prev_kvs: vec![] }));
    assert_eq!(state.revision(), 2);
}

#[test]
fn a_key_that_is_made_again_starts_over() {
    let mut state = filled(&["a", "a"]);
    ok(&mut state, delete(KeyRange::single("a")));
    ok(&mut state, put("a", "new"));
    let kv = state.get(b"a").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    let old = state.range(&RangeRequest { revision: 3, ..RangeRequest::get("a") }).unwrap();
    assert_eq!((old.revision, old.kvs[0].version), (5, 2));
}

#[test]
fn count_tells_the_truth_whatever_the_limit_and_more_says_there_is_more() {
    let state = filled(&["b", "a", "c", "d"]);
    let page = state.range(&RangeRequest { limit: 2, ..RangeRequest::prefix("") }).unwrap();
    assert_eq!(keys(&page), [b"a", b"b"]);
    assert_eq!((page.count, page.more), (4, true));
    let rest = RangeRequest { range: KeyRange::from_key("b\0"), limit: 2, ..RangeRequest::default() };
    let page = state.range(&rest).unwrap();
    assert_eq!(keys(&page), [b"c", b"d"]);
    assert_eq!((page.count, page.more), (2, false));
    let count = state.range(&RangeRequest { count_only: true, ..RangeRequest::prefix("") }).unwrap();
    assert_eq!((count.kvs.len(), count.count, count.more), (0, 4, false));
}

#[test]
fn filters_leave_the_count_alone() {
    let state = filled(&["a", "b", "c"]);
    let some = RangeRequest { min_mod_revision: 3, max_create_revision: 3, ..RangeRequest::prefix("") };
    let some = state.range(&some).unwrap();
    assert_eq!(keys(&some), [b"b"]);
    assert_eq!(some.count, 3);
}

#[test]
fn sorting_by_a_target_without_an_order_is_ascending() {
    let state = filled(&["c", "b", "a"]);
    let by = |sort_order, sort_target| {
        let request = RangeRequest { sort_order, sort_target, ..RangeRequest::prefix("") };
        state.range(&request).unwrap().kvs.iter().map(|kv| kv.key[0] as char).collect::<String>()
    };
    assert_eq!(by(SortOrder::None, SortTarget::Key), "abc");
    assert_eq!(by(SortOrder::None, SortTarget::Mod), "cba");
    assert_eq!(by(SortOrder::Descend, SortTarget::Mod), "abc");
    assert_eq!(by(SortOrder::Descend, SortTarget::Key), "cba");
    assert_eq!(by(SortOrder::Ascend, SortTarget::Value), "abc");
}

#[test]
fn texts_and_codes_are_etcd_s() {
    let mut state = filled(&["a"]);
    let request = |revision| RangeRequest { revision, ..RangeRequest::get("a") };
    let future = state.range(&request(99)).unwrap_err();
    assert_eq!(future.to_string(), "etcdserver: mvcc: required revision is a future revision");
    ok(&mut state, put("a", "2"));
    ok(&mut state, Command::Compact { revision: 3 });
    let compacted = state.range(&request(2)).unwrap_err();
    assert_eq!(compacted.to_string(), "etcdserver: mvcc: required revision has been compacted");
    assert_eq!((compacted.code(), future.code()), (Code::OutOfRange, Code::OutOfRange));
    assert!(state.range(&request(3)).is_ok());
    assert_eq!(refusal(&mut state, Command::Compact { revision: 3 }), Error::Compacted { compact_revision: 3 });
    assert_eq!(refusal(&mut state, Command::Compact { revision: 4 }), Error::FutureRevision);
    assert_eq!(refusal(&mut state, put("", "x")), Error::EmptyKey);
    let with_dead_lease = Command::Put(PutRequest { lease: 7, ..PutRequest::new("a", "x") });
    assert_eq!(refusal(&mut state, with_dead_lease), Error::LeaseNotFound);
    let ignoring = |value: &'static str| PutRequest { ignore_value: true, ..PutRequest::new("zz", value) };
    assert_eq!(refusal(&mut state, Command::Put(ignoring("x"))), Error::ValueProvided);
    assert_eq!(refusal(&mut state, Command::Put(ignoring(""))), Error::KeyNotFound);
}

#[test]
fn a_txn_is_one_revision_and_its_reads_see_its_writes() {
    let mut state = filled(&["a"]);
    let request = TxnRequest {
        compare: vec![Compare::absent("b")],
        success: vec![
            TxnOp::Range(RangeRequest::prefix("")),
            TxnOp::Put(PutRequest::new("b", "1")),
            TxnOp::Range(RangeRequest::prefix("")),
            TxnOp::DeleteRange(DeleteRangeRequest::key("a")),
        ],
        failure: vec![],
    };
    let applied = state.apply(txn(request));
    let Ok(Response::Txn(response)) = applied.result else { panic!("{:?}", applied.result) };
    assert!(response.succeeded);
    assert_eq!((response.revision, state.revision()), (3, 3));
    let TxnOpResponse::Range(before) = &response.responses[0] else { panic!() };
    let TxnOpResponse::Range(after) = &response.responses[2] else { panic!() };
    assert_eq!((before.count, before.revision), (1, 2));
    assert_eq!((after.count, after.revision), (2, 3));
    assert_eq!(applied.events.keys().count(), 2);
    let events = events(&state, 3);
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Put, EventKind::Delete]);
    assert!(events.iter().all(|event| event.kv.mod_revision == 3));
}

#[test]
fn nested_conditions_are_decided_before_anything_is_written() {
    let mut state = State::default();
    let inner = TxnRequest {
        compare: vec![Compare::absent("a")],
        success: vec![TxnOp::Put(PutRequest::new("was", "absent"))],
        failure: vec![TxnOp::Put(PutRequest::new("was", "present"))],
    };
    let outer =
        TxnRequest { success: vec![TxnOp::Put(PutRequest::new("a", "1")), TxnOp::Txn(inner)], ..TxnRequest::default() };
    ok(&mut state, txn(outer));
    assert_eq!(state.get(b"was").unwrap().value, "absent");
}

#[test]
fn a_comparison_with_a_missing_value_never_holds() {
    let mut state = State::default();
    let compare = |result| Compare { range: KeyRange::single("a"), result, target: CompareTarget::Value(Bytes::new()) };
    for result in [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Less, CompareResult::Greater] {
        let request = TxnRequest { compare: vec![compare(result)], ..TxnRequest::default() };
        let Response::Txn(response) = ok(&mut state, txn(request)) else { panic!() };
        assert!(!response.succeeded);
    }
}

#[test]
fn a_comparison_of_a_range_must_hold_for_every_key() {
    let mut state = filled(&["a1", "a2"]);
    let compare = |revision| Compare {
        range: KeyRange::prefix("a"),
        result: CompareResult::Greater,
        target: CompareTarget::ModRevision(revision),
    };
    for (revision, expected) in [(1, true), (2, false)] {
        let request = TxnRequest { compare: vec![compare(revision)], ..TxnRequest::default() };
        let Response::Txn(response) = ok(&mut state, txn(request)) else { panic!() };
        assert_eq!(response.succeeded, expected);
    }
}

#[test]
fn one_branch_may_not_change_a_key_twice() {
    let mut state = State::default();
    let put = |key: &'static str| TxnOp::Put(PutRequest::new(key, ""));
    let delete = |range| TxnOp::DeleteRange(DeleteRangeRequest { range, prev_kv: false });
    let nested = |success, failure| TxnOp::Txn(TxnRequest { compare: vec![], success, failure });
    let duplicates = [
        vec![put("a"), put("a")],
        vec![put("a"), delete(KeyRange::prefix("a"))],
        vec![put("a"), nested(vec![put("a")], vec![])],
        vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])],
        vec![delete(KeyRange::single("a")), nested(vec![put("a")], vec![])],
    ];
    for success in duplicates {
        let request = TxnRequest { success, ..TxnRequest::default() };
        assert_eq!(refusal(&mut state, txn(request)), Error::DuplicateKey);
    }
    let allowed = [
        vec![delete(KeyRange::prefix("a")), delete(KeyRange::single("a"))],
        vec![nested(vec![put("a")], vec![put("a")])],
    ];
    for success in allowed {
        ok(&mut state, txn(TxnRequest { success, ..TxnRequest::default() }));
    }
}

#[test]
fn the_limit_of_operations_counts_down_into_nested_transactions() {
    let put = |n: usize| TxnOp::Put(PutRequest::new(n.to_string(), ""));
    let flat = TxnRequest { success: (0..128).map(put).collect(), ..TxnRequest::default() };
    assert_eq!(flat.check(128), Ok(()));
    assert_eq!(flat.check(127), Err(Error::TooManyOps));
    let nested = TxnRequest { success: vec![TxnOp::Txn(flat)], ..TxnRequest::default() };
    assert_eq!(nested.check(128), Err(Error::TooManyOps));
    assert_eq!(nested.check(129), Ok(()));
}

#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision() {
    let mut state = State::default();
    let Response::LeaseGrant(lease) = ok(&mut state, Command::LeaseGrant { id: 0, ttl: 30 }) else { panic!() };
    assert!(lease.id > 0);
    assert_eq!(state.revision(), 1);
    for key in ["b", "a", "kept"] {
        ok(&mut state, Command::Put(PutRequest { lease: lease.id, ..PutRequest::new(key, "v") }));
    }
    // A put without the lease lets the key go; one that ignores the lease does not.
    ok(&mut state, put("kept", "v2"));
    ok(&mut state, Command::Put(PutRequest { ignore_lease: true, ..PutRequest::new("a", "v2") }));
    assert_eq!(state.lease_keys(lease.id).unwrap(), ["a", "b"]);
    let restored = State::restore(state.image());
    assert_eq!(restored.lease_keys(lease.id), state.lease_keys(lease.id));

    let revision = state.revision();
    ok(&mut state, Command::LeaseRevoke { id: lease.id });
    let gone: Vec<_> = events(&state, revision + 1).into_iter().map(|event| (event.kind, event.kv.key)).collect();
    assert_eq!(gone, [(EventKind::Delete, Bytes::from("a")), (EventKind::Delete, Bytes::from("b"))]);
    assert_eq!(state.revision(), revision + 1);
    assert_eq!(state.lease_ttl(lease.id), None);
    assert_eq!(refusal(&mut state, Command::LeaseRevoke { id: lease.id }), Error::LeaseNotFound);
}

#[test]
fn lease_ids_are_not_given_twice_and_wishes_are_bounded() {
    let mut state = State::default();
    let grant = |id, ttl| Command::LeaseGrant { id, ttl };
    ok(&mut state, grant(5, 10));
    assert_eq!(refusal(&mut state, grant(5, 10)), Error::LeaseExists);
    assert_eq!(refusal(&mut state, grant(6, MAX_LEASE_TTL + 1)), Error::LeaseTtlTooLarge);
    let Response::LeaseGrant(short) = ok(&mut state, grant(7, 0)) else { panic!() };
    assert_eq!(short.ttl, MIN_LEASE_TTL);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let Response::LeaseGrant(lease) = ok(&mut state, grant(0, 10)) else { panic!() };
        assert!(lease.id > 0 && ids.insert(lease.id));
    }
}

#[test]
fn a_watch_may_start_at_the_compaction_and_not_below_it() {
    let mut state = filled(&["a", "b"]);
    ok(&mut state, delete(KeyRange::single("a")));
    ok(&mut state, put("b", "2"));
    ok(&mut state, Command::Compact { revision: 4 });
    let shown = events(&state, 4);
    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0].kind, shown[0].kv.mod_revision), (EventKind::Delete, 4));
    assert!(state.history_since(3).is_err());
    let restored = State::restore(state.image());
    assert_eq!(events(&restored, 4), shown);
}

#[test]
fn the_image_survives_serialisation() {
    let mut state = filled(&["a", "b"]);
    ok(&mut state, delete(KeyRange::single("a")));
    let image = state.image();
    let text = serde_json::to_string(&image).unwrap();
    assert_eq!(serde_json::from_str::<Image>(&text).unwrap(), image);
}
