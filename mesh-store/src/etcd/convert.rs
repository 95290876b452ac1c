//! Protobuf to the store's words and back. Key and value bytes move; they are copied only into responses.

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbRangeResponse, PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest,
    PbTxnRequestOp, PbTxnResponse,
};
use mesh_store_mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Error, Event, EventKind, KeyRange,
    KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse, SortOrder, SortTarget, TxnOp, TxnOpResponse,
    TxnRequest, TxnResponse,
};

pub(super) fn sort_order(named: i32) -> Result<SortOrder, Error> {
    Ok(match named {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(Error::InvalidSortOption),
    })
}

pub(super) fn sort_target(named: i32) -> Result<SortTarget, Error> {
    Ok(match named {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        _ => return Err(Error::InvalidSortOption),
    })
}

pub(super) fn range(request: PbRangeRequest) -> Result<RangeRequest, Error> {
    let (sort_order, sort_target) = (sort_order(request.sort_order)?, sort_target(request.sort_target)?);
    Ok(RangeRequest {
        range: KeyRange::new(request.key, request.range_end),
        limit: request.limit,
        revision: request.revision,
        sort_order,
        sort_target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

pub(super) fn put(request: PbPutRequest) -> PutRequest {
    PutRequest {
        key: request.key.into(),
        value: request.value.into(),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(super) fn delete_range(request: PbDeleteRequest) -> DeleteRangeRequest {
    DeleteRangeRequest { range: KeyRange::new(request.key, request.range_end), prev_kv: request.prev_kv }
}

pub(super) fn txn(request: PbTxnRequest) -> Result<TxnRequest, Error> {
    Ok(TxnRequest {
        compare: request.compare.into_iter().map(compare).collect(),
        success: request.success.into_iter().map(op).collect::<Result<_, _>>()?,
        failure: request.failure.into_iter().map(op).collect::<Result<_, _>>()?,
    })
}

fn op(op: PbTxnRequestOp) -> Result<TxnOp, Error> {
    Ok(match op.request.ok_or(Error::KeyNotFound)? {
        PbTxnOpRequest::RequestRange(request) => TxnOp::Range(range(request)?),
        PbTxnOpRequest::RequestPut(request) => TxnOp::Put(put(request)),
        PbTxnOpRequest::RequestDeleteRange(request) => TxnOp::DeleteRange(delete_range(request)),
        PbTxnOpRequest::RequestTxn(request) => TxnOp::Txn(txn(request)?),
    })
}

/// As in etcd, the target says what is compared, and a value of another kind counts as none given; words that are not
/// known are let through.
fn compare(compare: PbCompare) -> Compare {
    let given = compare.target_union;
    let target = match (compare.target, given) {
        (0, Some(PbTargetUnion::Version(version))) => CompareTarget::Version(version),
        (0, _) => CompareTarget::Version(0),
        (1, Some(PbTargetUnion::CreateRevision(revision))) => CompareTarget::CreateRevision(revision),
        (1, _) => CompareTarget::CreateRevision(0),
        (2, Some(PbTargetUnion::ModRevision(revision))) => CompareTarget::ModRevision(revision),
        (2, _) => CompareTarget::ModRevision(0),
        (3, Some(PbTargetUnion::Value(value))) => CompareTarget::Value(value.into()),
        (3, _) => CompareTarget::Value(Bytes::new()),
        (4, Some(PbTargetUnion::Lease(lease))) => CompareTarget::Lease(lease),
        (4, _) => CompareTarget::Lease(0),
        _ => CompareTarget::Unknown,
    };
    let result = match compare.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => CompareResult::Unknown,
    };
    Compare { range: KeyRange::new(compare.key, compare.range_end), result, target }
}

pub(super) fn range_response(response: RangeResponse, header: PbResponseHeader) -> PbRangeResponse {
    PbRangeResponse {
        header: Some(header),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

pub(super) fn put_response(response: PutResponse, header: PbResponseHeader) -> PbPutResponse {
    PbPutResponse { header: Some(header), prev_kv: response.prev_kv.map(key_value) }
}

pub(super) fn delete_response(response: DeleteRangeResponse, header: PbResponseHeader) -> PbDeleteResponse {
    PbDeleteResponse {
        header: Some(header),
        deleted: response.deleted,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

pub(super) fn txn_response(response: TxnResponse, header: PbResponseHeader) -> PbTxnResponse {
    // As in etcd, the answers inside a transaction carry the revision and no other part of a header.
    let at = |revision| PbResponseHeader { revision, ..PbResponseHeader::default() };
    let responses = response.responses.into_iter().map(|response| {
        let response = match response {
            TxnOpResponse::Range(range) => {
                let header = at(range.revision);
                PbTxnOpResponse::ResponseRange(range_response(range, header))
            }
            TxnOpResponse::Put(put) => {
                let header = at(put.revision);
                PbTxnOpResponse::ResponsePut(put_response(put, header))
            }
            TxnOpResponse::DeleteRange(delete) => {
                let header = at(delete.revision);
                PbTxnOpResponse::ResponseDeleteRange(delete_response(delete, header))
            }
            // Those of a nested transaction are not even given the revision.
            TxnOpResponse::Txn(inner) => PbTxnOpResponse::ResponseTxn(txn_response(inner, PbResponseHeader::default())),
        };
        PbResponseOp { response: Some(response) }
    });
    PbTxnResponse { header: Some(header), succeeded: response.succeeded, responses: responses.collect() }
}

pub(super) fn key_value(kv: KeyValue) -> PbKeyValue {
    PbKeyValue {
        key: kv.key.into(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.into(),
        lease: kv.lease,
    }
}

pub(super) fn event(event: Event, with_previous: bool) -> PbEvent {
    PbEvent {
        r#type: match event.kind {
            EventKind::Put => 0,
            EventKind::Delete => 1,
        },
        kv: Some(key_value(event.kv)),
        prev_kv: event.prev_kv.filter(|_| with_previous).map(key_value),
    }
}
