//! Reading a range the way etcd does, quirks of order and limit included.

use std::cmp::Ordering;

use crate::keyspace::Keyspace;
use crate::overlay::{Found, Overlay, Shown};
use crate::stored::Record;
use crate::{Error, RangeRequest, RangeResponse, SortOrder, SortTarget};

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
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
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
        if !request.count_only && found.len() < fetch && admits(request, one.record) {
            found.push(one);
        }
    }
    sort(&mut found, request);
    let more = found.len() > limit;
    found.truncate(limit);
    let show = if request.keys_only { Found::without_value } else { Found::key_value };
    let kvs = found.iter().map(show).collect();
    Ok(RangeResponse { revision: view.revision, kvs, more, count: i64::try_from(count).unwrap_or(i64::MAX) })
}

fn admits(request: &RangeRequest, record: &Record) -> bool {
    (request.min_mod_revision == 0 || record.mod_revision >= request.min_mod_revision)
        && (request.max_mod_revision == 0 || record.mod_revision <= request.max_mod_revision)
        && (request.min_create_revision == 0 || record.create_revision >= request.min_create_revision)
        && (request.max_create_revision == 0 || record.create_revision <= request.max_create_revision)
}

fn sort(found: &mut [Found<'_>], request: &RangeRequest) {
    // Keys with the same value stay in byte order, in both directions: what etcd does with up to twelve of them, and
    // leaves open for more.
    let descend = request.sort_order == SortOrder::Descend;
    let by = |order: fn(&Record, &Record) -> Ordering| {
        move |a: &Found<'_>, b: &Found<'_>| {
            if descend { order(b.record, a.record) } else { order(a.record, b.record) }
        }
    };
    match request.sort_target {
        SortTarget::Key if !descend => {}
        SortTarget::Key => found.reverse(),
        SortTarget::Version => found.sort_by(by(|a, b| a.version.cmp(&b.version))),
        SortTarget::Create => found.sort_by(by(|a, b| a.create_revision.cmp(&b.create_revision))),
        SortTarget::Mod => found.sort_by(by(|a, b| a.mod_revision.cmp(&b.mod_revision))),
        SortTarget::Value => found.sort_by(by(|a, b| a.value().cmp(b.value()))),
    }
}
