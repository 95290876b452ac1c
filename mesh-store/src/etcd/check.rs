//! What etcd's gRPC layer refuses before anything else happens, in its order, on the request as it came.
//!
//! The store checks again what it needs; here it is about *which* of several reasons a client is told.

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};
use mesh_store_mvcc::Error;

use super::convert;

/// What etcd adds to a change before it measures it: the header with the request's number, and the two fields' own tags.
const ENVELOPE: usize = 19;

pub(super) fn range(request: &PbRangeRequest) -> Result<(), Error> {
    key(&request.key)?;
    convert::sort_order(request.sort_order)?;
    convert::sort_target(request.sort_target)?;
    Ok(())
}

pub(super) fn put(request: &PbPutRequest) -> Result<(), Error> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub(super) fn delete_range(request: &PbDeleteRequest) -> Result<(), Error> {
    key(&request.key)
}

/// `max_ops` bounds each of the three lists; nested transactions count against what their parent left over.
pub(super) fn txn(request: &PbTxnRequest, max_ops: usize) -> Result<(), Error> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = max_ops.checked_sub(longest).ok_or(Error::TooManyOps)?;
    request.compare.iter().try_for_each(|compare| key(&compare.key))?;
    request.success.iter().chain(&request.failure).try_for_each(|op| operation(op, left))
}

fn operation(op: &PbTxnRequestOp, max_ops: usize) -> Result<(), Error> {
    match &op.request {
        Some(PbTxnOpRequest::RequestRange(request)) => range(request),
        Some(PbTxnOpRequest::RequestPut(request)) => put(request),
        Some(PbTxnOpRequest::RequestDeleteRange(request)) => delete_range(request),
        Some(PbTxnOpRequest::RequestTxn(request)) => txn(request, max_ops),
        None => Err(Error::KeyNotFound),
    }
}

/// Changes are bounded by the bytes that they take in the log; reads are not.
pub(super) fn size(request: &impl prost::Message, max_bytes: usize) -> Result<(), Error> {
    if request.encoded_len() + ENVELOPE > max_bytes { Err(Error::RequestTooLarge) } else { Ok(()) }
}

/// True for a transaction that etcd answers without its log.
pub(super) fn is_read(request: &PbTxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(PbTxnOpRequest::RequestRange(_))))
}

fn key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: PbTxnOpRequest) -> PbTxnRequestOp {
        PbTxnRequestOp { request: Some(request) }
    }

    #[test]
    fn the_first_reason_in_etcds_order_is_given() {
        let both = PbRangeRequest { sort_order: 7, ..PbRangeRequest::default() };
        assert_eq!(range(&both), Err(Error::EmptyKey));
        assert_eq!(range(&PbRangeRequest { key: vec![1], sort_target: -1, ..both }), Err(Error::InvalidSortOption));
        let empty_key = op(PbTxnOpRequest::RequestPut(PbPutRequest::default()));
        let nothing = PbTxnRequestOp { request: None };
        let mut request = PbTxnRequest { success: vec![nothing, empty_key], ..PbTxnRequest::default() };
        assert_eq!(txn(&request, 2), Err(Error::KeyNotFound));
        assert_eq!(txn(&request, 1), Err(Error::TooManyOps));
        request.success.reverse();
        assert_eq!(txn(&request, 2), Err(Error::EmptyKey));
    }

    #[test]
    fn a_change_is_measured_as_etcd_measures_it() {
        let value = |bytes| PbPutRequest { key: b"k".to_vec(), value: vec![0; bytes], ..PbPutRequest::default() };
        let fits = 1_572_864 - ENVELOPE - "k".len() - 2 - 4;
        assert_eq!(size(&value(fits), 1_572_864), Ok(()));
        assert_eq!(size(&value(fits + 1), 1_572_864), Err(Error::RequestTooLarge));
    }
}
