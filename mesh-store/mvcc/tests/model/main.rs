//! The store against a model that is too simple to be wrong.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use bytes::Bytes;
use mesh_store_mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyRange, PutRequest, RangeRequest, State,
    TxnOp, TxnRequest,
};
use proptest::prelude::*;

mod reference;

use reference::{Model, assert_same};

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "a/1", "a/2", "a/3", "b", "b/1", "c"]).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::single),
        2 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(KeyRange::from_key),
        1 => (key(), key()).prop_map(|(from, to)| KeyRange::new(from, to)),
    ]
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0_i64), 1 => 1..4_i64]
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), 0..4_u8, lease(), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { Bytes::from(value.to_string()) },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn query() -> impl Strategy<Value = RangeRequest> {
    (range(), 0..4_i64, -1..30_i64, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(range, limit, revision, keys_only, count_only)| RangeRequest {
            range,
            limit,
            revision,
            keys_only,
            count_only,
            ..RangeRequest::default()
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRangeRequest { range, prev_kv })
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
        CompareResult::Unknown,
    ]);
    let target = prop_oneof![
        (0..3_i64).prop_map(CompareTarget::Version),
        (0..20_i64).prop_map(CompareTarget::CreateRevision),
        (0..20_i64).prop_map(CompareTarget::ModRevision),
        (0..4_u8).prop_map(|value| CompareTarget::Value(value.to_string().into())),
        (0..4_i64).prop_map(CompareTarget::Lease),
        Just(CompareTarget::Unknown),
    ];
    (range(), result, target).prop_map(|(range, result, target)| Compare { range, result, target })
}

fn op() -> impl Strategy<Value = TxnOp> {
    prop_oneof![
        3 => put().prop_map(TxnOp::Put),
        1 => delete().prop_map(TxnOp::DeleteRange),
        1 => query().prop_map(TxnOp::Range),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let txn =
        (prop::collection::vec(compare(), 0..2), prop::collection::vec(op(), 0..4), prop::collection::vec(op(), 0..4))
            .prop_map(|(compare, success, failure)| Command::Txn(TxnRequest { compare, success, failure }));
    prop_oneof![
        6 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        4 => txn,
        1 => (1..4_i64).prop_map(|id| Command::LeaseGrant { id, ttl: 10 }),
        1 => (1..4_i64).prop_map(|id| Command::LeaseRevoke { id }),
        1 => (0..40_i64).prop_map(|revision| Command::Compact { revision }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_the_model_does(
        commands in prop::collection::vec(command(), 1..60),
        queries in prop::collection::vec(query(), 1..6),
        restore_at in 0..60_usize,
    ) {
        let mut state = State::default();
        let mut model = Model::new();
        for (step, command) in commands.iter().enumerate() {
            let applied = state.apply(command.clone());
            prop_assert_eq!(&applied.result, &model.apply(command), "{:?}", command);
            if step == restore_at {
                state = State::restore(state.image());
            }
            assert_same(&state, &model, &queries);
        }
        let restored = State::restore(state.image());
        prop_assert_eq!(restored.image(), state.image());
        assert_same(&restored, &model, &queries);
    }
}
