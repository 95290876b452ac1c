//! Reading a range the way etcd does, quirks of order and limit included.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::keyspace::Keyspace;
use crate::overlay::{Found, Overlay, Shown};
use crate::{Error, KeyValue, RangeRequest, RangeResponse, SortOrder, SortTarget};

/// What a read may look at.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) keyspace: &'a Keyspace,
    /// The newest revision that can be seen; inside a transaction that has changed something, its own.
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

/// Refuses a request that could never be answered, whatever the state.
pub(crate) fn check(request: &RangeRequest) -> Result<(), Error> {
    if request.range.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Refuses revisions that are not there, before any operation of a transaction is executed. There, and only there, a
/// negative revision counts as one that may have been compacted.
pub(crate) fn check_in_txn(request: &RangeRequest, revision: i64, compacted: i64) -> Result<(), Error> {
    if request.revision < 0 && request.revision < compacted {
        return Err(compacted_at(compacted));
    }
    check_revision(request, revision, compacted)
}

fn compacted_at(compacted: i64) -> Error {
    Error::Compacted { compact_revision: compacted.max(0) }
}

/// Refuses revisions that are not there.
fn check_revision(request: &RangeRequest, revision: i64, compacted: i64) -> Result<(), Error> {
    if request.revision > revision {
        return Err(Error::FutureRevision);
    }
    if request.revision > 0 && request.revision < compacted {
        return Err(compacted_at(compacted));
    }
    Ok(())
}

pub(crate) fn read(view: View<'_>, request: &RangeRequest) -> Result<RangeResponse, Error> {
    read_through(view, request, None)
}

/// The same of what is shown through an overlay.
pub(crate) fn read_through(
    view: View<'_>,
    request: &RangeRequest,
    overlay: Option<&Overlay>,
) -> Result<RangeResponse, Error> {
    check_revision(request, view.revision, view.compacted)?;
    let at = if request.revision > 0 { request.revision } else { view.revision };
    let limit = limit(request);
    // etcd pushes the limit down unless an order is named: a sort target without an order sorts only the first page.
    let fetch = if request.sort_order != SortOrder::None || request.has_filters() {
        usize::MAX
    } else {
        limit.saturating_add(1)
    };

    let mut count = 0_usize;
    let mut found: Vec<Found<'_>> = Vec::new();
    let shown = Shown { keyspace: view.keyspace, overlay };
    for one in shown.scan(&request.range, at) {
        count += 1;
        if !request.count_only && found.len() < fetch && admits(request, &one) {
            found.push(one);
        }
    }
    let more = sort_and_cut(&mut found, request);
    let show = if request.keys_only { Found::without_value } else { Found::key_value };
    let kvs = found.iter().map(show).collect();
    Ok(RangeResponse { revision: view.revision, kvs, more, count: i64::try_from(count).unwrap_or(i64::MAX) })
}

/// What a range is filtered and sorted by.
trait Version {
    fn version(&self) -> i64;
    fn create_revision(&self) -> i64;
    fn mod_revision(&self) -> i64;
    fn value(&self) -> &[u8];
}

impl Version for Found<'_> {
    fn version(&self) -> i64 {
        self.record.version
    }
    fn create_revision(&self) -> i64 {
        self.record.create_revision
    }
    fn mod_revision(&self) -> i64 {
        self.record.mod_revision
    }
    fn value(&self) -> &[u8] {
        self.record.value()
    }
}

impl Version for KeyValue {
    fn version(&self) -> i64 {
        self.version
    }
    fn create_revision(&self) -> i64 {
        self.create_revision
    }
    fn mod_revision(&self) -> i64 {
        self.mod_revision
    }
    fn value(&self) -> &[u8] {
        &self.value
    }
}

impl RangeRequest {
    /// What this request answers of keys that are at hand, all of its range and in byte order: `kvs` and `more`.
    pub fn answer(&self, mut all: Vec<KeyValue>) -> (Vec<KeyValue>, bool) {
        if self.count_only {
            return (Vec::new(), false);
        }
        all.retain(|kv| admits(self, kv));
        let more = sort_and_cut(&mut all, self);
        if self.keys_only {
            for kv in &mut all {
                kv.value = Bytes::new();
            }
        }
        (all, more)
    }
}

fn admits(request: &RangeRequest, found: &impl Version) -> bool {
    let (created, modified) = (found.create_revision(), found.mod_revision());
    (request.min_mod_revision == 0 || modified >= request.min_mod_revision)
        && (request.max_mod_revision == 0 || modified <= request.max_mod_revision)
        && (request.min_create_revision == 0 || created >= request.min_create_revision)
        && (request.max_create_revision == 0 || created <= request.max_create_revision)
}

/// True when the limit cut something off.
fn sort_and_cut<V: Version>(found: &mut Vec<V>, request: &RangeRequest) -> bool {
    sort(found, request);
    let limit = limit(request);
    let more = found.len() > limit;
    found.truncate(limit);
    more
}

fn limit(request: &RangeRequest) -> usize {
    usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX)
}

fn sort<V: Version>(found: &mut [V], request: &RangeRequest) {
    // Keys with the same value stay in byte order, in both directions: what etcd does with up to twelve of them, and
    // leaves open for more.
    let descend = request.sort_order == SortOrder::Descend;
    let by = |order: fn(&V, &V) -> Ordering| move |a: &V, b: &V| if descend { order(b, a) } else { order(a, b) };
    match request.sort_target {
        SortTarget::Key if !descend => {}
        SortTarget::Key => found.reverse(),
        SortTarget::Version => found.sort_by(by(|a, b| a.version().cmp(&b.version()))),
        SortTarget::Create => found.sort_by(by(|a, b| a.create_revision().cmp(&b.create_revision()))),
        SortTarget::Mod => found.sort_by(by(|a, b| a.mod_revision().cmp(&b.mod_revision()))),
        SortTarget::Value => found.sort_by(by(|a, b| a.value().cmp(b.value()))),
    }
}
