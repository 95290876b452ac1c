//! One changing request: all its changes share one revision and are numbered inside it.

use super::State;
use crate::history::Changed;
use crate::range::{self, View};
use crate::stored::{Fields, Record};
use crate::txn::Path;
use crate::{
    DeleteRangeRequest, DeleteRangeResponse, Error, KeyRange, LeaseId, PutRequest, PutResponse, Revision, TxnOp,
    TxnOpResponse, TxnRequest, TxnResponse,
};

pub(super) struct Write<'a> {
    state: &'a mut State,
    /// The revision of the changes, if there are any.
    main: i64,
    changed: Vec<Record>,
}

impl<'a> Write<'a> {
    pub(super) fn begin(state: &'a mut State) -> Self {
        let main = state.revision + 1;
        Self { state, main, changed: Vec::new() }
    }

    /// Publishes the changes, if any, as the store's newest revision.
    pub(super) fn finish(self) -> Changed {
        if !self.changed.is_empty() {
            self.state.revision = self.main;
            for record in &self.changed {
                self.state.history.push(record.clone());
            }
        }
        Changed(self.changed)
    }

    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        request.check()?;
        // etcd looks for the lease first here, and last inside a transaction.
        self.check_lease(request)?;
        self.check_present(request)?;
        Ok(self.execute_put(request))
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        if request.range.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        Ok(self.execute_delete(request))
    }

    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        request.check(usize::MAX)?;
        let path = Path::decide(self.state.view(), request);
        self.check_branch(request, &path, &mut Vec::new())?;
        Ok(self.execute_txn(request, &path))
    }

    /// Ends a lease and deletes its keys in byte order.
    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<i64, Error> {
        for key in self.state.leases.revoke(id)? {
            self.delete_key(&key);
        }
        Ok(self.seen())
    }

    /// The newest revision that this request can see: its own once it has changed something.
    fn seen(&self) -> i64 {
        if self.changed.is_empty() { self.state.revision } else { self.main }
    }

    /// The key as this request sees it, its own changes included.
    fn get(&self, key: &[u8]) -> Option<&Record> {
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

    fn execute_txn(&mut self, request: &TxnRequest, path: &Path) -> TxnResponse {
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(request.branch(path.succeeded).len());
        for op in request.branch(path.succeeded) {
            responses.push(match op {
                TxnOp::Range(range) => TxnOpResponse::Range(
                    range::read(self.view(), range).expect("the revision was checked before the first write"),
                ),
                TxnOp::Put(put) => TxnOpResponse::Put(self.execute_put(put)),
                TxnOp::DeleteRange(delete) => TxnOpResponse::DeleteRange(self.execute_delete(delete)),
                TxnOp::Txn(inner) => {
                    let path = nested.next().expect("a path was decided for every nested transaction");
                    TxnOpResponse::Txn(self.execute_txn(inner, path))
                }
            });
        }
        TxnResponse { revision: self.seen(), succeeded: path.succeeded, responses }
    }

    fn execute_put(&mut self, request: &PutRequest) -> PutResponse {
        let present = self.get(&request.key).cloned();
        let value = match &present {
            Some(present) if request.ignore_value => present.value(),
            _ => &request.value,
        };
        let mut fields = Fields::put(self.next());
        fields.lease = request.lease;
        if let Some(present) = &present {
            if request.ignore_lease {
                fields.lease = present.lease;
            }
            fields.create_revision = present.create_revision;
            fields.version = present.version + 1;
        }
        let record = Record::new(fields, &request.key, value);
        let old_lease = present.as_ref().map_or(0, |present| present.lease);
        if old_lease != fields.lease {
            self.state.leases.detach(old_lease, &request.key);
            self.state.leases.attach(fields.lease, &request.key);
        }
        self.append(record);
        let prev_kv = present.filter(|_| request.prev_kv).map(|present| present.key_value());
        PutResponse { revision: self.main, prev_kv }
    }

    fn execute_delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed: Vec<Record> = self.state.keyspace.scan(&request.range, self.main).cloned().collect();
        for record in &doomed {
            if record.lease != 0 {
                self.state.leases.detach(record.lease, record.key());
            }
            self.delete_key(record.key());
        }
        let prev_kvs = if request.prev_kv { doomed.iter().map(Record::key_value).collect() } else { Vec::new() };
        let deleted = i64::try_from(doomed.len()).unwrap_or(i64::MAX);
        DeleteRangeResponse { revision: self.seen(), deleted, prev_kvs }
    }

    fn delete_key(&mut self, key: &[u8]) {
        self.append(Record::new(Fields::deletion(self.next()), key, &[]));
    }

    fn append(&mut self, record: Record) {
        self.changed.push(record.clone());
        self.state.keyspace.append(record);
    }

    /// Where the next change stands.
    fn next(&self) -> Revision {
        Revision { main: self.main, sub: i64::try_from(self.changed.len()).unwrap_or(i64::MAX) }
    }
}
