//! Transactions: which branch is taken, what is refused before anything is written, and the rule against touching a key
//! twice.
//!
//! As in etcd, all conditions (nested ones too) are decided on the state before the transaction, and every reason to
//! refuse is found before the first write, so execution cannot fail half way.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::range::{self, View};
use crate::stored::Record;
use crate::{
    Compare, CompareResult, CompareTarget, Error, KeyRange, PutRequest, TxnOp, TxnOpResponse, TxnRequest, TxnResponse,
};

/// etcd's default limit of operations in one transaction.
pub const DEFAULT_MAX_TXN_OPS: usize = 128;

impl TxnRequest {
    /// Refuses a transaction that could never be executed. `max_ops` bounds each of the three lists, and nested
    /// transactions count against what their parent left over.
    pub fn check(&self, max_ops: usize) -> Result<(), Error> {
        self.check_size(max_ops)?;
        self.check_duplicates()
    }

    /// Refuses a transaction one of whose branches would change a key twice.
    pub fn check_duplicates(&self) -> Result<(), Error> {
        touched(&self.success)?;
        touched(&self.failure)?;
        Ok(())
    }

    fn check_size(&self, max_ops: usize) -> Result<(), Error> {
        let longest = self.compare.len().max(self.success.len()).max(self.failure.len());
        let left = max_ops.checked_sub(longest).ok_or(Error::TooManyOps)?;
        if self.compare.iter().any(|compare| compare.range.key.is_empty()) {
            return Err(Error::EmptyKey);
        }
        self.success.iter().chain(&self.failure).try_for_each(|op| match op {
            TxnOp::Range(request) => range::check(request),
            TxnOp::Put(request) => request.check(),
            TxnOp::DeleteRange(request) if request.range.key.is_empty() => Err(Error::EmptyKey),
            TxnOp::DeleteRange(_) => Ok(()),
            TxnOp::Txn(request) => request.check_size(left),
        })
    }
}

impl PutRequest {
    /// Refuses a put that could never be executed.
    pub fn check(&self) -> Result<(), Error> {
        if self.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(Error::ValueProvided);
        }
        if self.ignore_lease && self.lease != 0 {
            return Err(Error::LeaseProvided);
        }
        Ok(())
    }

    /// True when something of the present key is to be kept, so there must be one.
    pub(crate) fn keeps_something(&self) -> bool {
        self.ignore_value || self.ignore_lease
    }
}

/// What a list of operations puts and deletes, over all branches that might be taken.
#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Touched<'a> {
    fn deletes_key(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }

    fn put(&mut self, key: &'a Bytes) -> Result<(), Error> {
        if self.deletes_key(key) || !self.puts.insert(key) { Err(Error::DuplicateKey) } else { Ok(()) }
    }
}

/// Finds a key that one branch would change twice. Deleting what is deleted already is allowed, and so are puts of one
/// key in the two branches of one nested transaction, since only one of them runs. As in etcd, a deletion without an upper
/// end meets no put, whatever it deletes.
fn touched(ops: &[TxnOp]) -> Result<Touched<'_>, Error> {
    let mut all = Touched::default();
    for op in ops {
        if let TxnOp::DeleteRange(request) = op
            && !request.range.is_open_ended()
        {
            all.deletes.push(&request.range);
        }
    }
    for op in ops {
        let TxnOp::Txn(request) = op else { continue };
        let success = touched(&request.success)?;
        let failure = touched(&request.failure)?;
        for key in &success.puts {
            all.put(key)?;
        }
        for key in failure.puts.difference(&success.puts) {
            all.put(key)?;
        }
        all.deletes.extend(success.deletes);
        all.deletes.extend(failure.deletes);
    }
    for op in ops {
        if let TxnOp::Put(request) = op {
            all.put(&request.key)?;
        }
    }
    Ok(all)
}

/// The branch taken by a transaction, and by each transaction nested in that branch.
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    /// In the order of the nested transactions inside the branch.
    pub(crate) nested: Vec<Path>,
}

impl Path {
    pub(crate) fn decide(view: View<'_>, request: &TxnRequest) -> Self {
        let succeeded = request.compare.iter().all(|compare| holds(view, compare));
        let nested = request
            .branch(succeeded)
            .iter()
            .filter_map(|op| match op {
                TxnOp::Txn(inner) => Some(Self::decide(view, inner)),
                _ => None,
            })
            .collect();
        Self { succeeded, nested }
    }
}

impl TxnRequest {
    /// True when no branch can change anything.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            TxnOp::Range(_) => true,
            TxnOp::Txn(request) => request.is_read_only(),
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
        })
    }

    pub(crate) fn branch(&self, succeeded: bool) -> &[TxnOp] {
        if succeeded { &self.success } else { &self.failure }
    }
}

/// Finds every reason to refuse a transaction that changes nothing, in the order of its operations.
pub(crate) fn check_reads(view: View<'_>, request: &TxnRequest, path: &Path) -> Result<(), Error> {
    let mut nested = path.nested.iter();
    request.branch(path.succeeded).iter().try_for_each(|op| match op {
        TxnOp::Range(range) => range::check_in_txn(range, view.revision, view.compacted),
        TxnOp::Txn(inner) => nested.next().map_or(Ok(()), |path| check_reads(view, inner, path)),
        TxnOp::Put(_) | TxnOp::DeleteRange(_) => Ok(()),
    })
}

/// Answers a transaction that changes nothing.
pub(crate) fn read(view: View<'_>, request: &TxnRequest, path: &Path) -> Result<TxnResponse, Error> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for op in request.branch(path.succeeded) {
        match op {
            TxnOp::Range(request) => responses.push(TxnOpResponse::Range(range::read(view, request)?)),
            TxnOp::Txn(request) => {
                let Some(path) = nested.next() else { continue };
                responses.push(TxnOpResponse::Txn(read(view, request, path)?));
            }
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => {}
        }
    }
    Ok(TxnResponse { revision: view.revision, succeeded: path.succeeded, responses })
}

fn holds(view: View<'_>, compare: &Compare) -> bool {
    let mut keys = view.keyspace.scan(&compare.range, view.revision).peekable();
    if keys.peek().is_none() {
        // A missing value cannot be written down in a request, so comparing with it never holds.
        return !matches!(compare.target, CompareTarget::Value(_)) && holds_for(compare, None);
    }
    keys.all(|record| holds_for(compare, Some(record)))
}

/// A key that does not exist compares as all zeroes.
fn holds_for(compare: &Compare, record: Option<&Record>) -> bool {
    let number = |of: fn(&Record) -> i64| record.map_or(0, of);
    let order = match &compare.target {
        CompareTarget::Version(version) => number(|record| record.version).cmp(version),
        CompareTarget::CreateRevision(revision) => number(|record| record.create_revision).cmp(revision),
        CompareTarget::ModRevision(revision) => number(|record| record.mod_revision).cmp(revision),
        CompareTarget::Value(value) => record.map_or(&[][..], Record::value).cmp(value),
        CompareTarget::Lease(lease) => number(|record| record.lease).cmp(lease),
        CompareTarget::Unknown => Ordering::Equal,
    };
    match compare.result {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
        CompareResult::Unknown => true,
    }
}
