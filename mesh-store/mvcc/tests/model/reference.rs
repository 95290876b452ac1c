//! One whole map for every revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mesh_store_mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Error, Event, EventKind,
    KeyRange, KeyValue, LeaseGranted, PutRequest, PutResponse, RangeRequest, RangeResponse, Response, State, TxnOp,
    TxnOpResponse, TxnRequest, TxnResponse,
};

type Map = BTreeMap<Bytes, KeyValue>;

pub(crate) struct Model {
    /// `maps[i]` is the store at revision `i + 1`.
    maps: Vec<Map>,
    compacted: i64,
    leases: BTreeSet<i64>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { maps: vec![Map::new()], compacted: -1, leases: BTreeSet::new() }
    }

    pub(crate) fn revision(&self) -> i64 {
        i64::try_from(self.maps.len()).unwrap()
    }

    fn now(&self) -> &Map {
        self.maps.last().unwrap()
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<Response, Error> {
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
        check_duplicates(&request.success)?;
        check_duplicates(&request.failure)?;
        self.check(request, &mut Vec::new())?;
        Ok(self.execute(work, request))
    }

    fn branch<'r>(&self, request: &'r TxnRequest) -> (bool, &'r [TxnOp]) {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &request.success } else { &request.failure })
    }

    /// Every reason to refuse is found before the first change; `gone` is what was deleted without an end.
    fn check<'r>(&self, request: &'r TxnRequest, gone: &mut Vec<&'r KeyRange>) -> Result<(), Error> {
        for op in self.branch(request).1 {
            match op {
                TxnOp::Put(put) => {
                    let keeps = put.ignore_lease || put.ignore_value;
                    if keeps && gone.iter().any(|range| range.contains(&put.key)) {
                        return Err(Error::KeyNotFound);
                    }
                    self.check_present(put)?;
                    self.check_lease(put)?;
                }
                TxnOp::Range(range) if range.revision < 0 && range.revision < self.compacted => {
                    return Err(self.is_compacted());
                }
                TxnOp::Range(range) => self.check_revision(range.revision)?,
                TxnOp::DeleteRange(delete) if delete.range.is_open_ended() => gone.push(&delete.range),
                TxnOp::DeleteRange(_) => {}
                TxnOp::Txn(nested) => self.check(nested, gone)?,
            }
        }
        Ok(())
    }

    fn execute(&self, work: &mut Work, request: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = self.branch(request);
        let mut responses = Vec::new();
        for op in ops {
            responses.push(match op {
                TxnOp::Put(put) => TxnOpResponse::Put(work.put(put)),
                TxnOp::DeleteRange(delete) => TxnOpResponse::DeleteRange(work.delete(delete)),
                TxnOp::Range(range) => {
                    let map = if range.revision > 0 { self.at(range.revision) } else { &work.map };
                    TxnOpResponse::Range(read(map, range, work.seen()))
                }
                TxnOp::Txn(nested) => TxnOpResponse::Txn(self.execute(work, nested)),
            });
        }
        TxnResponse { revision: work.seen(), succeeded, responses }
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

/// What a list of operations might put and delete.
#[derive(Default)]
struct Touched<'r> {
    puts: BTreeSet<&'r Bytes>,
    deletes: Vec<&'r KeyRange>,
}

/// No branch puts a key twice, or puts what it deletes. As in etcd, a deletion without an end meets no put, nested
/// deletions meet only what stands behind them, and of the two branches of one nested transaction only one runs.
fn check_duplicates(ops: &[TxnOp]) -> Result<Touched<'_>, Error> {
    let ends = |op: &&TxnOp| matches!(op, TxnOp::DeleteRange(delete) if !delete.range.is_open_ended());
    let mut all = Touched::default();
    for op in ops.iter().filter(ends) {
        if let TxnOp::DeleteRange(delete) = op {
            all.deletes.push(&delete.range);
        }
    }
    let nested = ops.iter().filter_map(|op| if let TxnOp::Txn(nested) = op { Some(nested) } else { None });
    for request in nested {
        let (success, failure) = (check_duplicates(&request.success)?, check_duplicates(&request.failure)?);
        for key in success.puts.union(&failure.puts) {
            all.put(key)?;
        }
        all.deletes.extend(success.deletes.into_iter().chain(failure.deletes));
    }
    for op in ops {
        if let TxnOp::Put(put) = op {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

impl<'r> Touched<'r> {
    fn put(&mut self, key: &'r Bytes) -> Result<(), Error> {
        let is_deleted = self.deletes.iter().any(|range| range.contains(key));
        if is_deleted || !self.puts.insert(key) { Err(Error::DuplicateKey) } else { Ok(()) }
    }
}

/// The store and the model answer alike and show the same changes.
pub(crate) fn assert_same(state: &State, model: &Model, queries: &[RangeRequest]) {
    assert_eq!(state.revision(), model.revision());
    assert_eq!(state.key_count(), model.now().len());
    for query in queries {
        assert_eq!(state.range(query), model.range(query));
    }
    let first = model.compacted.max(2);
    assert!(model.compacted < 1 || state.history_since(model.compacted - 1).is_err());
    let mut revision = first;
    for changes in state.history_since(first).unwrap() {
        let shown: Vec<_> = changes.events().collect();
        assert_eq!(changes.revision(), revision);
        assert_events(model, revision, &shown);
        revision += 1;
    }
    assert_eq!(revision, model.revision() + 1, "history ends at the newest revision");
}

/// A key may be deleted and made again in one revision: then the last change counts.
fn assert_events(model: &Model, revision: i64, events: &[Event]) {
    let before = model.at(revision - 1);
    let mut last: BTreeMap<&Bytes, (usize, &Event)> = BTreeMap::new();
    for event in events {
        let seen = last.get(&event.kv.key).map_or(0, |(seen, _)| *seen);
        last.insert(&event.kv.key, (seen + 1, event));
    }
    if revision > model.compacted {
        for (_, event) in last.values().filter(|(seen, _)| *seen == 1) {
            assert_eq!(event.prev_kv.as_ref(), before.get(&event.kv.key));
        }
    }
    // Made and deleted again: the difference of two maps does not show it.
    let is_visible = |event: &Event| event.kind == EventKind::Put || before.contains_key(&event.kv.key);
    let shown: Vec<_> = last
        .into_values()
        .map(|(_, event)| event)
        .filter(|event| is_visible(event))
        .map(|event| (event.kind, event.kv.key.clone(), (event.kind == EventKind::Put).then(|| event.kv.clone())))
        .collect();
    assert_eq!(shown, model.events(revision), "revision {revision}");
}
