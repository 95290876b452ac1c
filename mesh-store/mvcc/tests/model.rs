//! The store against a model that is too simple to be wrong: one whole map for every revision.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mesh_store_mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Error, EventKind,
    KeyRange, KeyValue, LeaseGranted, PutRequest, PutResponse, RangeRequest, RangeResponse, Response, State, TxnOp,
    TxnOpResponse, TxnRequest, TxnResponse,
};
use proptest::prelude::*;

type Map = BTreeMap<Bytes, KeyValue>;

struct Model {
    /// `maps[i]` is the store at revision `i + 1`.
    maps: Vec<Map>,
    compacted: i64,
    leases: BTreeSet<i64>,
}

impl Model {
    fn new() -> Self {
        Self { maps: vec![Map::new()], compacted: -1, leases: BTreeSet::new() }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.maps.len()).unwrap()
    }

    fn now(&self) -> &Map {
        self.maps.last().unwrap()
    }

    fn apply(&mut self, command: &Command) -> Result<Response, Error> {
        let mut work = Work { map: self.now().clone(), main: self.revision() + 1, changed: false };
        let response = match command {
            Command::Put(request) => {
                self.check_lease(request)?;
                self.check_present(request)?;
                Response::Put(work.put(request))
            }
            Command::DeleteRange(request) => Response::DeleteRange(work.delete(request)),
            Command::Txn(request) => Response::Txn(self.txn(&mut work, request)?),
            Command::LeaseGrant { id, ttl } => {
                if !self.leases.insert(*id) {
                    return Err(Error::LeaseExists);
                }
                Response::LeaseGrant(LeaseGranted { revision: self.revision(), id: *id, ttl: *ttl })
            }
            Command::LeaseRevoke { id } => {
                if !self.leases.remove(id) {
                    return Err(Error::LeaseNotFound);
                }
                let before = work.map.len();
                work.map.retain(|_, kv| kv.lease != *id);
                work.changed = work.map.len() != before;
                Response::LeaseRevoke { revision: work.seen() }
            }
            Command::Alarm { .. } => unreachable!("alarms have tests of their own"),
            Command::Compact { revision } => {
                if *revision <= self.compacted {
                    return Err(self.is_compacted());
                }
                if *revision > self.revision() {
                    return Err(Error::FutureRevision);
                }
                self.compacted = *revision;
                Response::Compact { revision: self.revision() }
            }
        };
        if work.changed {
            self.maps.push(work.map);
        }
        Ok(response)
    }

    fn is_compacted(&self) -> Error {
        Error::Compacted { compact_revision: self.compacted.max(0) }
    }

    fn check_present(&self, request: &PutRequest) -> Result<(), Error> {
        if (request.ignore_lease || request.ignore_value) && !self.now().contains_key(&request.key) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn check_lease(&self, request: &PutRequest) -> Result<(), Error> {
        if request.lease != 0 && !self.leases.contains(&request.lease) { Err(Error::LeaseNotFound) } else { Ok(()) }
    }

    fn txn(&self, work: &mut Work, request: &TxnRequest) -> Result<TxnResponse, Error> {
        for branch in [&request.success, &request.failure] {
            check_duplicates(branch)?;
        }
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        for op in ops {
            match op {
                TxnOp::Put(put) => {
                    self.check_present(put)?;
                    self.check_lease(put)?;
                }
                TxnOp::Range(range) if range.revision < 0 && range.revision < self.compacted => {
                    return Err(self.is_compacted());
                }
                TxnOp::Range(range) => self.check_revision(range.revision)?,
                TxnOp::DeleteRange(_) | TxnOp::Txn(_) => {}
            }
        }
        let mut responses = Vec::new();
        for op in ops {
            responses.push(match op {
                TxnOp::Put(put) => TxnOpResponse::Put(work.put(put)),
                TxnOp::DeleteRange(delete) => TxnOpResponse::DeleteRange(work.delete(delete)),
                TxnOp::Range(range) => {
                    let map = if range.revision > 0 { self.at(range.revision) } else { &work.map };
                    TxnOpResponse::Range(read(map, range, work.seen()))
                }
                TxnOp::Txn(_) => unreachable!("nested transactions have tests of their own"),
            });
        }
        Ok(TxnResponse { revision: work.seen(), succeeded, responses })
    }

    fn at(&self, revision: i64) -> &Map {
        &self.maps[usize::try_from(revision - 1).unwrap()]
    }

    fn check_revision(&self, revision: i64) -> Result<(), Error> {
        if revision > self.revision() {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            return Err(self.is_compacted());
        }
        Ok(())
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.check_revision(request.revision)?;
        let revision = if request.revision > 0 { request.revision } else { self.revision() };
        Ok(read(self.at(revision), request, self.revision()))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found: Vec<_> = self.now().values().filter(|kv| compare.range.contains(&kv.key)).collect();
        let missing = KeyValue::default();
        let found = if found.is_empty() {
            if matches!(compare.target, CompareTarget::Value(_)) {
                return false;
            }
            vec![&missing]
        } else {
            found
        };
        found.iter().all(|kv| {
            let order = match &compare.target {
                CompareTarget::Version(wanted) => kv.version.cmp(wanted),
                CompareTarget::CreateRevision(wanted) => kv.create_revision.cmp(wanted),
                CompareTarget::ModRevision(wanted) => kv.mod_revision.cmp(wanted),
                CompareTarget::Value(wanted) => kv.value.cmp(wanted),
                CompareTarget::Lease(wanted) => kv.lease.cmp(wanted),
                CompareTarget::Unknown => std::cmp::Ordering::Equal,
            };
            match compare.result {
                CompareResult::Equal => order.is_eq(),
                CompareResult::NotEqual => order.is_ne(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
                CompareResult::Unknown => true,
            }
        })
    }

    /// What a watch of everything shows for one revision: the difference of two maps, in byte order.
    fn events(&self, revision: i64) -> Vec<(EventKind, Bytes, Option<KeyValue>)> {
        let (before, after) = (self.at(revision - 1), self.at(revision));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        keys.into_iter()
            .filter(|key| before.get(*key) != after.get(*key))
            .map(|key| match after.get(key) {
                Some(kv) => (EventKind::Put, key.clone(), Some(kv.clone())),
                None => (EventKind::Delete, key.clone(), None),
            })
            .collect()
    }
}

struct Work {
    map: Map,
    main: i64,
    changed: bool,
}

impl Work {
    fn seen(&self) -> i64 {
        if self.changed { self.main } else { self.main - 1 }
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let old = self.map.get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            value: match &old {
                Some(old) if request.ignore_value => old.value.clone(),
                _ => request.value.clone(),
            },
            create_revision: old.as_ref().map_or(self.main, |old| old.create_revision),
            mod_revision: self.main,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: match &old {
                Some(old) if request.ignore_lease => old.lease,
                _ => request.lease,
            },
        };
        self.map.insert(request.key.clone(), kv);
        self.changed = true;
        PutResponse { revision: self.main, prev_kv: old.filter(|_| request.prev_kv) }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<_> = self.map.values().filter(|kv| request.range.contains(&kv.key)).cloned().collect();
        for kv in &gone {
            self.map.remove(&kv.key);
            self.changed = true;
        }
        DeleteRangeResponse {
            revision: self.seen(),
            deleted: i64::try_from(gone.len()).unwrap(),
            prev_kvs: if request.prev_kv { gone } else { vec![] },
        }
    }
}

fn read(map: &Map, request: &RangeRequest, revision: i64) -> RangeResponse {
    let all: Vec<_> = map.values().filter(|kv| request.range.contains(&kv.key)).cloned().collect();
    let count = i64::try_from(all.len()).unwrap();
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let mut kvs = if request.count_only { vec![] } else { all };
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    RangeResponse { revision, kvs, more, count }
}

fn check_duplicates(ops: &[TxnOp]) -> Result<(), Error> {
    let mut puts = BTreeSet::new();
    for op in ops {
        if let TxnOp::Put(put) = op {
            let deleted = ops.iter().any(|op| matches!(op, TxnOp::DeleteRange(d) if d.range.contains(&put.key)));
            if deleted || !puts.insert(&put.key) {
                return Err(Error::DuplicateKey);
            }
        }
    }
    Ok(())
}

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
        // A deletion without an end may meet a put, and two changes of a key in one revision are more than this model knows.
        1 => delete().prop_filter("an end", |delete| !delete.range.is_open_ended()).prop_map(TxnOp::DeleteRange),
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

fn check_same(state: &State, model: &Model, queries: &[RangeRequest]) -> Result<(), TestCaseError> {
    prop_assert_eq!(state.revision(), model.revision());
    prop_assert_eq!(state.key_count(), model.now().len());
    for query in queries {
        prop_assert_eq!(state.range(query), model.range(query));
    }
    let first = model.compacted.max(2);
    prop_assert!(model.compacted < 1 || state.history_since(model.compacted - 1).is_err());
    let mut revision = first;
    for changes in state.history_since(first).unwrap() {
        let expected = model.events(revision);
        let events: Vec<_> = changes.events().collect();
        let mut shown: Vec<_> = events
            .iter()
            .map(|event| (event.kind, event.kv.key.clone(), (event.kind == EventKind::Put).then(|| event.kv.clone())))
            .collect();
        shown.sort_by(|a, b| a.1.cmp(&b.1));
        prop_assert_eq!(shown, expected, "revision {}", revision);
        for event in events.iter().filter(|_| revision > model.compacted) {
            prop_assert_eq!(event.prev_kv.as_ref(), model.at(revision - 1).get(&event.kv.key));
        }
        revision += 1;
    }
    prop_assert_eq!(revision, model.revision() + 1, "history ends at the newest revision");
    Ok(())
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
            check_same(&state, &model, &queries)?;
        }
        let restored = State::restore(state.image());
        prop_assert_eq!(restored.image(), state.image());
        check_same(&restored, &model, &queries)?;
    }
}
