//! What is shown through an overlay, against one keyspace per reader that is worked out naively: after every command, all
//! keys are read as they are stored, and those that a reader may see are put where the reader sees them.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use std::collections::BTreeMap;

use bytes::Bytes;
use mesh_store_mvcc::{
    Command, DeleteRangeRequest, Event, EventKind, KeyRange, KeyValue, Overlay, PutRequest, RangeRequest, SortOrder,
    SortTarget, State, TxnOp, TxnRequest,
};
use proptest::prelude::*;

const WITHIN: &str = "f/";
const PLACES: [&str; 3] = ["", "for/b/", "for/c/"];
const READERS: [&str; 2] = ["for/b/", "for/c/"];

fn overlay(reader: &str) -> Overlay {
    Overlay::new(WITHIN, reader.to_owned())
}

/// What a reader sees at one revision.
type Snapshot = BTreeMap<Bytes, KeyValue>;

/// Of a reader, by revision.
#[derive(Default)]
struct Model {
    snapshots: BTreeMap<i64, Snapshot>,
    compacted: i64,
}

impl Model {
    fn note(&mut self, state: &State, reader: &str) {
        let all = state.range(&RangeRequest { range: KeyRange::all(), ..RangeRequest::default() }).unwrap();
        let mut seen: BTreeMap<Bytes, (i64, bool, KeyValue)> = BTreeMap::new();
        for kv in all.kvs {
            let (key, is_own) = match kv.key.strip_prefix(reader.as_bytes()) {
                Some(rest) if rest.starts_with(WITHIN.as_bytes()) => (Bytes::copy_from_slice(rest), true),
                Some(_) => continue,
                None => (kv.key.clone(), false),
            };
            let rank = (kv.mod_revision, is_own);
            if seen.get(&key).is_none_or(|(revision, is_own, _)| rank > (*revision, *is_own)) {
                seen.insert(key.clone(), (rank.0, rank.1, KeyValue { key, ..kv }));
            }
        }
        let snapshot = seen.into_iter().map(|(key, (_, _, kv))| (key, kv)).collect();
        self.snapshots.insert(state.revision(), snapshot);
        self.compacted = state.compact_revision();
    }

    fn range(&self, request: &RangeRequest, now: i64) -> (Vec<KeyValue>, bool, i64) {
        let at = if request.revision > 0 { request.revision } else { now };
        let snapshot = &self.snapshots[&at];
        let all: Vec<&KeyValue> = snapshot.values().filter(|kv| request.range.contains(&kv.key)).collect();
        let count = i64::try_from(all.len()).unwrap();
        let admits = |kv: &&KeyValue| {
            (request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision)
                && (request.max_create_revision == 0 || kv.create_revision <= request.max_create_revision)
        };
        let mut kvs: Vec<KeyValue> = all.into_iter().filter(admits).cloned().collect();
        match (request.sort_order, request.sort_target) {
            (SortOrder::Descend, SortTarget::Mod) => kvs.sort_by_key(|kv| std::cmp::Reverse(kv.mod_revision)),
            (SortOrder::Ascend, SortTarget::Mod) => kvs.sort_by_key(|kv| kv.mod_revision),
            (SortOrder::Descend, _) => kvs.reverse(),
            _ => {}
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let more = !request.count_only && kvs.len() > limit;
        kvs.truncate(if request.count_only { 0 } else { limit });
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        (kvs, more, count)
    }

    /// The difference between two revisions, in order of the keys.
    fn events(&self, revision: i64, range: &KeyRange) -> Vec<Event> {
        let none = Snapshot::new();
        let before = self.snapshots.get(&(revision - 1)).unwrap_or(&none);
        let after = &self.snapshots[&revision];
        let keys: std::collections::BTreeSet<&Bytes> = before.keys().chain(after.keys()).collect();
        let changed = keys.into_iter().filter(|key| range.contains(key) && before.get(*key) != after.get(*key));
        changed
            .map(|key| {
                let gone = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
                let (kind, kv) = match after.get(key) {
                    Some(kv) => (EventKind::Put, kv.clone()),
                    None => (EventKind::Delete, gone),
                };
                Event { kind, kv, prev_kv: before.get(key).cloned() }
            })
            .collect()
    }
}

fn shown_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["f/1", "f/2", "f/2/x", "f/3", "f/3\0", "f/\u{7f}"])
}

/// Stored keys: shown ones in each place, and some that no overlay is about.
fn stored_key() -> impl Strategy<Value = Bytes> {
    let placed = (prop::sample::select(PLACES.to_vec()), shown_key()).prop_map(|(place, key)| format!("{place}{key}"));
    let other = prop::sample::select(vec!["e", "f", "f0", "for/b/g", "for/b/e", "g"]).prop_map(str::to_owned);
    prop_oneof![6 => placed, 1 => other].prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop::sample::select(vec!["e", "f/", "f/2", "f/2\0", "f/3", "f0", "for/b/f/2", "g", "\0"]);
    prop_oneof![
        2 => shown_key().prop_map(KeyRange::single),
        3 => prop::sample::select(vec!["f/", "f/2", "f", "for/b/", "for/c/f/"]).prop_map(KeyRange::prefix),
        1 => shown_key().prop_map(KeyRange::from_key),
        1 => Just(KeyRange::all()),
        3 => (prop_oneof![shown_key(), Just("e"), Just("f/2\0"), Just("f0")], end)
            .prop_map(|(from, to)| KeyRange::new(from, to)),
    ]
}

fn query() -> impl Strategy<Value = RangeRequest> {
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![SortTarget::Key, SortTarget::Mod]);
    let filter = prop_oneof![3 => Just(0_i64), 1 => 1..30_i64];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (range(), 0..4_i64, 0..40_i64, order, target, (filter.clone(), filter), flags).prop_map(
        |(range, limit, revision, sort_order, sort_target, filters, (keys_only, count_only))| RangeRequest {
            range,
            limit,
            revision,
            sort_order,
            // As in etcd, an order that is not named sorts the first page only.
            sort_target: if sort_order == SortOrder::None { SortTarget::Key } else { sort_target },
            min_mod_revision: filters.0,
            max_create_revision: filters.1,
            keys_only,
            count_only,
            ..RangeRequest::default()
        },
    )
}

fn put(key: impl Into<Bytes>, value: u8, lease: i64) -> PutRequest {
    PutRequest { lease, ..PutRequest::new(key, value.to_string()) }
}

fn command() -> impl Strategy<Value = Command> {
    let place = || prop::sample::select(PLACES.to_vec());
    // A move: one put, and deletes in the other places, as one revision.
    let moved = (place(), shown_key(), any::<u8>()).prop_map(|(to, key, value)| {
        let gone = PLACES.into_iter().filter(|place| *place != to);
        let gone = gone.map(|from| TxnOp::DeleteRange(DeleteRangeRequest::key(format!("{from}{key}"))));
        let success = std::iter::once(TxnOp::Put(put(format!("{to}{key}"), value, 0))).chain(gone).collect();
        Command::Txn(TxnRequest { success, ..TxnRequest::default() })
    });
    let op = prop_oneof![
        2 => (stored_key(), any::<u8>()).prop_map(|(key, value)| TxnOp::Put(put(key, value, 0))),
        1 => stored_key().prop_map(|key| TxnOp::DeleteRange(DeleteRangeRequest::key(key))),
    ];
    let txn = prop::collection::vec(op, 1..5)
        .prop_map(|success| Command::Txn(TxnRequest { success, ..TxnRequest::default() }));
    prop_oneof![
        5 => (stored_key(), any::<u8>(), 0..3_i64).prop_map(|(key, value, lease)| Command::Put(put(key, value, lease))),
        2 => stored_key().prop_map(|key| Command::DeleteRange(DeleteRangeRequest::key(key))),
        1 => stored_key().prop_map(|key| Command::DeleteRange(DeleteRangeRequest::prefix(key))),
        4 => moved,
        3 => txn,
        1 => (1..3_i64).prop_map(|id| Command::LeaseGrant { id, ttl: 10 }),
        1 => (1..3_i64).prop_map(|id| Command::LeaseRevoke { id }),
        1 => (1..50_i64).prop_map(|revision| Command::Compact { revision }),
    ]
}

fn check_ranges(state: &State, model: &Model, reader: &str, queries: &[RangeRequest]) {
    for query in queries {
        let answer = state.range_through(query, &overlay(reader));
        if query.revision > state.revision() || (query.revision > 0 && query.revision < model.compacted) {
            assert_eq!(answer.unwrap_err(), state.range(query).unwrap_err(), "{query:?}");
            continue;
        }
        let answer = answer.unwrap();
        let want = model.range(query, state.revision());
        assert_eq!((answer.kvs, answer.more, answer.count), want, "{query:?} by {reader}");
        assert_eq!(answer.revision, state.revision());
    }
}

fn check_history(state: &State, model: &Model, reader: &str, range: &KeyRange) {
    let from = model.compacted.max(2);
    for changes in state.history_since(from).unwrap() {
        let revision = changes.revision();
        let mut events = changes.events_through(range, &overlay(reader));
        events.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
        let mut want = model.events(revision, range);
        if revision == model.compacted {
            // What was before is gone, here as everywhere; what is told must be so all the same, and nothing may be missing.
            for event in &mut want {
                event.prev_kv = None;
            }
            for event in &mut events {
                let before = event.prev_kv.take();
                assert!(before.is_none_or(|before| before.key == event.kv.key && before.mod_revision < revision));
                let now = model.snapshots[&revision].get(&event.kv.key);
                assert_eq!((event.kind == EventKind::Put).then_some(&event.kv), now, "{event:?}");
                assert!(range.contains(&event.kv.key), "{event:?}");
            }
            assert!(want.iter().all(|event| events.contains(event)), "{events:?} lacks some of {want:?}");
        } else {
            assert_eq!(events, want, "revision {revision} of {range:?} by {reader}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_sees_its_overlay_and_everybodys_keys_as_one_keyspace(
        commands in prop::collection::vec(command(), 1..50),
        queries in prop::collection::vec(query(), 1..6),
        watched in range(),
        restore_at in 0..60_usize,
    ) {
        let mut state = State::default();
        let mut models = READERS.map(|_| Model::default());
        for (step, command) in commands.iter().enumerate() {
            // A command that is refused changes nothing, which the models see too.
            drop(state.apply(command.clone()));
            if step == restore_at {
                state = State::restore(state.image());
            }
            for (reader, model) in READERS.into_iter().zip(&mut models) {
                if step == 0 && state.revision() > 1 {
                    model.snapshots.insert(1, Snapshot::new());
                }
                model.note(&state, reader);
                check_ranges(&state, model, reader, &queries);
            }
        }
        for (reader, model) in READERS.into_iter().zip(&models) {
            check_history(&state, model, reader, &watched);
        }
    }

    #[test]
    fn nothing_of_anothers_overlay_is_ever_shown(commands in prop::collection::vec(command(), 1..50)) {
        let mut state = State::default();
        let within = KeyRange::prefix(WITHIN);
        for command in commands {
            drop(state.apply(command));
        }
        let plain: Vec<KeyValue> = state.range(&RangeRequest::prefix("f/")).unwrap().kvs;
        for reader in READERS {
            let own = state.range(&RangeRequest::prefix(format!("{reader}f/"))).unwrap().kvs;
            let seen = state.range_through(&RangeRequest::prefix("f/"), &overlay(reader)).unwrap();
            let is_theirs = |kv: &KeyValue| {
                let stored = [reader.as_bytes(), &kv.key].concat();
                plain.contains(kv) || own.contains(&KeyValue { key: stored.into(), ..kv.clone() })
            };
            prop_assert!(seen.kvs.iter().all(is_theirs));
            for changes in state.history_since(state.compact_revision()).unwrap() {
                let events = changes.events_through(&within, &overlay(reader));
                let keys: Vec<Bytes> = changes.events().map(|event| event.kv.key).collect();
                for event in events {
                    let stored: Bytes = [reader.as_bytes(), &event.kv.key].concat().into();
                    prop_assert!(keys.contains(&event.kv.key) || keys.contains(&stored), "{:?}", event);
                }
            }
        }
    }
}

#[test]
fn a_key_that_moves_in_one_revision_is_put_once_and_pages_go_on_behind_the_last_key() {
    let mut state = State::default();
    for key in ["f/1", "f/3", "for/b/f/2", "for/c/f/2", "for/b/f/4"] {
        state.apply(Command::Put(PutRequest::new(key, key))).result.unwrap();
    }
    let mut request = RangeRequest { limit: 1, ..RangeRequest::prefix("f/") };
    let mut seen = Vec::new();
    loop {
        let page = state.range_through(&request, &overlay("for/b/")).unwrap();
        assert_eq!(page.count, 4 - i64::try_from(seen.len()).unwrap());
        let last = page.kvs[0].key.clone();
        seen.push(String::from_utf8(last.to_vec()).unwrap());
        if !page.more {
            break;
        }
        request.range.key = [&last[..], b"\0"].concat().into();
    }
    assert_eq!(seen, ["f/1", "f/2", "f/3", "f/4"]);
    let success =
        vec![TxnOp::Put(PutRequest::new("for/b/f/1", "b's")), TxnOp::DeleteRange(DeleteRangeRequest::key("f/1"))];
    state.apply(Command::Txn(TxnRequest { success, ..TxnRequest::default() })).result.unwrap();
    let moved = |reader: &str| {
        let changes = state.history_since(state.revision()).unwrap().next().unwrap();
        let events = changes.events_through(&KeyRange::prefix("f/"), &overlay(reader));
        events.into_iter().map(|event| (event.kind, event.kv.value, event.prev_kv.unwrap().value)).collect::<Vec<_>>()
    };
    assert_eq!(moved("for/b/"), [(EventKind::Put, "b's".into(), "f/1".into())]);
    assert_eq!(moved("for/c/"), [(EventKind::Delete, "".into(), "f/1".into())]);
}
