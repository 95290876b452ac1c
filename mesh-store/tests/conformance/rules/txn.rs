//! Transactions.

use mesh_store::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, Error as Refusal, KeyRange, PutRequest, RangeRequest,
    TxnOp, TxnOpResponse, TxnRequest,
};

use super::{Case, refusal};

fn put(case: &Case, key: &str, value: &str) -> TxnOp {
    TxnOp::Put(PutRequest::new(case.key(key), value.to_owned()))
}

pub(super) async fn a_transaction_takes_one_branch_as_one_revision(case: Case) {
    let before = case.put("old", "x").await;
    let request = TxnRequest {
        compare: vec![Compare::absent(case.key("k"))],
        success: vec![
            put(&case, "k", "1"),
            TxnOp::Range(RangeRequest::get(case.key("k"))),
            TxnOp::DeleteRange(DeleteRangeRequest::key(case.key("old"))),
        ],
        failure: vec![TxnOp::Range(RangeRequest::get(case.key("k")))],
    };
    let first = case.store.txn(request.clone()).await.unwrap();
    assert_eq!((first.succeeded, first.revision), (true, before + 1));
    let [TxnOpResponse::Put(_), TxnOpResponse::Range(seen), TxnOpResponse::DeleteRange(deleted)] = &first.responses[..]
    else {
        panic!("one answer for each operation: {:?}", first.responses)
    };
    assert_eq!((&seen.kvs[0].value[..], seen.kvs[0].mod_revision), (&b"1"[..], before + 1), "it sees its own writes");
    assert_eq!(deleted.deleted, 1);
    let second = case.store.txn(request).await.unwrap();
    assert_eq!((second.succeeded, second.revision), (false, before + 1), "a read makes no revision");
    let [TxnOpResponse::Range(seen)] = &second.responses[..] else { panic!("{:?}", second.responses) };
    assert_eq!(&seen.kvs[0].value[..], b"1");
}

pub(super) async fn every_target_compares_as_etcd_does(case: Case) {
    let lease = case.store.lease_grant(0, 600).await.unwrap().id;
    let created = case.put("k", "m").await;
    let written = PutRequest { lease, ..PutRequest::new(case.key("k"), "m") };
    let changed = case.store.put(written).await.unwrap().revision;
    let holds = async |range: KeyRange, result: CompareResult, target: CompareTarget| {
        let compare = vec![Compare { range, result, target }];
        case.store.txn(TxnRequest { compare, ..TxnRequest::default() }).await.unwrap().succeeded
    };
    let value = |text: &'static str| CompareTarget::Value(text.into());
    let table = [
        ("k", CompareResult::Equal, CompareTarget::Version(2), true),
        ("k", CompareResult::Greater, CompareTarget::Version(2), false),
        ("k", CompareResult::Less, CompareTarget::Version(3), true),
        ("k", CompareResult::NotEqual, CompareTarget::Version(2), false),
        ("k", CompareResult::Equal, CompareTarget::CreateRevision(created), true),
        ("k", CompareResult::Equal, CompareTarget::ModRevision(changed), true),
        ("k", CompareResult::Less, CompareTarget::ModRevision(changed), false),
        ("k", CompareResult::Equal, value("m"), true),
        ("k", CompareResult::Greater, value("a"), true),
        ("k", CompareResult::Less, value("n"), true),
        ("k", CompareResult::Equal, CompareTarget::Lease(lease), true),
        ("k", CompareResult::NotEqual, CompareTarget::Lease(0), true),
        ("none", CompareResult::Equal, CompareTarget::CreateRevision(0), true),
        ("none", CompareResult::Equal, CompareTarget::Version(0), true),
        ("none", CompareResult::Equal, value(""), false),
        ("none", CompareResult::NotEqual, value("x"), false),
        ("k", CompareResult::Unknown, CompareTarget::Version(9), true),
        ("none", CompareResult::Unknown, CompareTarget::Version(9), true),
        ("k", CompareResult::Unknown, value("x"), true),
        ("none", CompareResult::Unknown, value("x"), false),
        ("k", CompareResult::Equal, CompareTarget::Unknown, true),
        ("k", CompareResult::NotEqual, CompareTarget::Unknown, false),
    ];
    for (key, result, target, wanted) in table {
        let held = holds(KeyRange::single(case.key(key)), result, target.clone()).await;
        assert_eq!(held, wanted, "{key} {result:?} {target:?}");
    }
    case.put("l", "z").await;
    let both = KeyRange::prefix(case.prefix());
    assert!(holds(both.clone(), CompareResult::Greater, value("a")).await, "of every key in the range");
    assert!(!holds(both, CompareResult::Equal, value("m")).await);
    let empty = KeyRange::prefix(case.key("none/"));
    assert!(holds(empty.clone(), CompareResult::Equal, CompareTarget::Version(0)).await);
    assert!(!holds(empty, CompareResult::Equal, value("x")).await);
    case.store.lease_revoke(lease).await.unwrap();
}

pub(super) async fn transactions_nest(case: Case) {
    let before = case.put("k", "1").await;
    let inner = TxnRequest {
        compare: vec![Compare::mod_revision(case.key("k"), before)],
        success: vec![put(&case, "inner", "yes")],
        failure: vec![put(&case, "inner", "no")],
    };
    let outer = TxnRequest { success: vec![TxnOp::Txn(inner), put(&case, "outer", "x")], ..TxnRequest::default() };
    let done = case.store.txn(outer).await.unwrap();
    assert_eq!(done.revision, before + 1);
    let [TxnOpResponse::Txn(inner), TxnOpResponse::Put(_)] = &done.responses[..] else { panic!("{done:?}") };
    assert!(inner.succeeded && inner.responses.len() == 1);
    let found = case.store.range(RangeRequest::prefix(case.prefix())).await.unwrap();
    let values: Vec<_> = found.kvs.iter().map(|kv| (&kv.value[..], kv.mod_revision)).collect();
    assert_eq!(values, [(&b"yes"[..], before + 1), (b"1", before), (b"x", before + 1)]);
}

pub(super) async fn a_transaction_may_be_large(case: Case) {
    let success: Vec<TxnOp> = (0..1000).map(|n| put(&case, &format!("{n:04}"), &"v".repeat(900))).collect();
    let done = case.store.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
    assert_eq!(done.responses.len(), 1000);
    let found = case.store.range(RangeRequest::prefix(case.prefix())).await.unwrap();
    assert!(found.count == 1000 && found.kvs.iter().all(|kv| kv.mod_revision == done.revision));
}

pub(super) async fn a_key_is_written_once_in_a_transaction(case: Case) {
    let twice = TxnRequest { success: vec![put(&case, "k", "1"), put(&case, "k", "2")], ..TxnRequest::default() };
    assert_eq!(refusal(case.store.txn(twice).await), Refusal::DuplicateKey);
    let all = TxnOp::DeleteRange(DeleteRangeRequest::prefix(case.prefix()));
    let under = TxnRequest { success: vec![put(&case, "k", "1"), all], ..TxnRequest::default() };
    assert_eq!(refusal(case.store.txn(under).await), Refusal::DuplicateKey);
    assert_eq!(case.store.range(RangeRequest::prefix(case.prefix())).await.unwrap().count, 0, "nothing of it happened");
}
