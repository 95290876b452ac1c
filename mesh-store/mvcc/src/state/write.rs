//! One changing request: all its changes share one revision and are numbered inside it.

use bytes::Bytes;

use super::State;
use crate::range::{self, View};
use crate::txn::Path;
use crate::{
    DeleteRangeRequest, DeleteRangeResponse, Error, Event, EventBatch, EventKind, KeyRange, KeyValue, LeaseId,
    PutRequest, PutResponse, Revision, TxnOp, TxnOpResponse, TxnRequest, TxnResponse,
};

pub(super) struct Write<'a> {
    state: &'a mut State,
    /// The revision of the changes, if there are any.
    main: i64,
    events: Vec<Event>,
}

impl<'a> Write<'a> {
    pub(super) fn begin(state: &'a mut State) -> Self {
        let main = state.revision + 1;
        Self { state, main, events: Vec::new() }
    }

    /// Publishes the changes, if any, as the store's newest revision.
    pub(super) fn finish(self) -> EventBatch {
        if self.events.is_empty() {
            return EventBatch::default();
        }
        let events = EventBatch::from(self.events);
        self.state.revision = self.main;
        self.state.history.push(self.main, EventBatch::clone(&events));
        events
    }

    pub(super) fn put(&mut self, request: PutRequest) -> Result<PutResponse, Error> {
        request.check()?;
        // etcd looks for the lease first here, and last inside a transaction.
        self.check_lease(&request)?;
        self.check_present(&request)?;
        Ok(self.execute_put(request))
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        if request.range.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        Ok(self.execute_delete(request))
    }

    pub(super) fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Error> {
        request.check(usize::MAX)?;
        let path = Path::decide(self.state.view(), &request);
        self.check_branch(&request, &path, &mut Vec::new())?;
        Ok(self.execute_txn(request, path))
    }

    /// Ends a lease and deletes its keys in byte order.
    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<i64, Error> {
        for key in self.state.leases.revoke(id)? {
            self.delete_key(key);
        }
        Ok(self.seen())
    }

    /// The newest revision that this request can see: its own once it has changed something.
    fn seen(&self) -> i64 {
        if self.events.is_empty() { self.state.revision } else { self.main }
    }

    /// The key as this request sees it, its own changes included.
    fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.state.keyspace.get(key, self.main)
    }

    fn view(&self) -> View<'_> {
        View { revision: self.seen(), ..self.state.view() }
    }

    fn check_present(&self, request: &PutRequest) -> Result<(), Error> {
        if request.keeps_something() && self.get(&request.key).is_none() {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn check_lease(&self, request: &PutRequest) -> Result<(), Error> {
        if request.lease != 0 && !self.state.leases.contains(request.lease) {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }

    /// `gone` collects the open-ended deletions so far, whose keys the rule on duplicates does not cover. etcd is brought
    /// down by a put that wants to keep something of such a key; here it is refused as of a key that is not there.
    fn check_branch<'r>(
        &self,
        request: &'r TxnRequest,
        path: &Path,
        gone: &mut Vec<&'r KeyRange>,
    ) -> Result<(), Error> {
        let mut nested = path.nested.iter();
        request.branch(path.succeeded).iter().try_for_each(|op| match op {
            TxnOp::Range(range) => range::check_in_txn(range, self.state.revision, self.state.compacted),
            TxnOp::Put(put) => {
                if put.keeps_something() && gone.iter().any(|range| range.contains(&put.key)) {
                    return Err(Error::KeyNotFound);
                }
                self.check_present(put)?;
                self.check_lease(put)
            }
            TxnOp::DeleteRange(delete) => {
                gone.extend(delete.range.is_open_ended().then_some(&delete.range));
                Ok(())
            }
            TxnOp::Txn(inner) => nested.next().map_or(Ok(()), |path| self.check_branch(inner, path, gone)),
        })
    }

    fn execute_txn(&mut self, request: TxnRequest, path: Path) -> TxnResponse {
        let ops = if path.succeeded { request.success } else { request.failure };
        let mut nested = path.nested.into_iter();
        let responses = ops
            .into_iter()
            .map(|op| match op {
                TxnOp::Range(range) => TxnOpResponse::Range(
                    range::read(self.view(), &range).expect("the revision was checked before the first write"),
                ),
                TxnOp::Put(put) => TxnOpResponse::Put(self.execute_put(put)),
                TxnOp::DeleteRange(delete) => TxnOpResponse::DeleteRange(self.execute_delete(&delete)),
                TxnOp::Txn(inner) => {
                    let path = nested.next().expect("a path was decided for every nested transaction");
                    TxnOpResponse::Txn(self.execute_txn(inner, path))
                }
            })
            .collect();
        TxnResponse { revision: self.seen(), succeeded: path.succeeded, responses }
    }

    fn execute_put(&mut self, request: PutRequest) -> PutResponse {
        let present = self.get(&request.key).cloned();
        let (value, lease) = match &present {
            Some(kv) => (
                if request.ignore_value { kv.value.clone() } else { request.value },
                if request.ignore_lease { kv.lease } else { request.lease },
            ),
            None => (request.value, request.lease),
        };
        let kv = KeyValue {
            value,
            create_revision: present.as_ref().map_or(self.main, |kv| kv.create_revision),
            mod_revision: self.main,
            version: present.as_ref().map_or(0, |kv| kv.version) + 1,
            lease,
            key: request.key,
        };
        if let Some(old) = present.as_ref().filter(|old| old.lease != 0 && old.lease != lease) {
            self.state.leases.detach(old.lease, &kv.key);
        }
        if lease != 0 {
            self.state.leases.attach(lease, &kv.key);
        }
        let sub = self.next_sub();
        // What was deleted earlier in this request is created anew, with nothing before it.
        let prev_kv = if present.is_some() { self.before(&kv.key) } else { None };
        self.state.keyspace.put(kv.clone(), sub);
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv });
        PutResponse { revision: self.main, prev_kv: present.filter(|_| request.prev_kv) }
    }

    fn execute_delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed: Vec<KeyValue> = self.state.keyspace.scan(&request.range, self.main).cloned().collect();
        for kv in &doomed {
            if kv.lease != 0 {
                self.state.leases.detach(kv.lease, &kv.key);
            }
            self.delete_key(kv.key.clone());
        }
        DeleteRangeResponse {
            revision: self.seen(),
            deleted: i64::try_from(doomed.len()).unwrap_or(i64::MAX),
            prev_kvs: if request.prev_kv { doomed } else { Vec::new() },
        }
    }

    fn delete_key(&mut self, key: Bytes) {
        let at = Revision { main: self.main, sub: self.next_sub() };
        let prev_kv = self.before(&key);
        self.events.push(Event { kind: EventKind::Delete, kv: KeyValue::tombstone(key.clone(), self.main), prev_kv });
        self.state.keyspace.delete(key, at);
    }

    /// The key as it was before this request, which is what a watch shows as the previous value.
    fn before(&self, key: &[u8]) -> Option<KeyValue> {
        self.state.keyspace.get(key, self.main - 1).cloned()
    }

    fn next_sub(&self) -> i64 {
        i64::try_from(self.events.len()).unwrap_or(i64::MAX)
    }
}
