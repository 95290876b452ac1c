//! The store's words to etcd-client's and back. Keys and values move; none is copied.

use bytes::Bytes;
use etcd_client as etcd;
use etcd_client::proto::{
    PbDeleteResponse, PbEvent, PbKeyValue, PbPutResponse, PbRangeResponse, PbTxnOpResponse, PbTxnResponse,
};
use mesh_store_mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Event, EventKind, KeyValue,
    PutRequest, PutResponse, RangeRequest, RangeResponse, SortOrder, SortTarget, TxnOp, TxnOpResponse, TxnRequest,
    TxnResponse,
};

pub(super) fn range(request: RangeRequest) -> (Vec<u8>, etcd::GetOptions) {
    let target = match request.sort_target {
        SortTarget::Key => etcd::SortTarget::Key,
        SortTarget::Version => etcd::SortTarget::Version,
        SortTarget::Create => etcd::SortTarget::Create,
        SortTarget::Mod => etcd::SortTarget::Mod,
        SortTarget::Value => etcd::SortTarget::Value,
    };
    let order = match request.sort_order {
        SortOrder::None => etcd::SortOrder::None,
        SortOrder::Ascend => etcd::SortOrder::Ascend,
        SortOrder::Descend => etcd::SortOrder::Descend,
    };
    let mut options = etcd::GetOptions::new()
        .with_range(request.range.range_end)
        .with_limit(request.limit)
        .with_revision(request.revision)
        .with_sort(target, order)
        .with_min_mod_revision(request.min_mod_revision)
        .with_max_mod_revision(request.max_mod_revision)
        .with_min_create_revision(request.min_create_revision)
        .with_max_create_revision(request.max_create_revision);
    if request.serializable {
        options = options.with_serializable();
    }
    if request.keys_only {
        options = options.with_keys_only();
    }
    if request.count_only {
        options = options.with_count_only();
    }
    (request.range.key.into(), options)
}

pub(super) fn put(request: PutRequest) -> (Vec<u8>, Vec<u8>, etcd::PutOptions) {
    let mut options = etcd::PutOptions::new().with_lease(request.lease);
    if request.prev_kv {
        options = options.with_prev_key();
    }
    if request.ignore_value {
        options = options.with_ignore_value();
    }
    if request.ignore_lease {
        options = options.with_ignore_lease();
    }
    (request.key.into(), request.value.into(), options)
}

pub(super) fn delete_range(request: DeleteRangeRequest) -> (Vec<u8>, etcd::DeleteOptions) {
    let mut options = etcd::DeleteOptions::new().with_range(request.range.range_end);
    if request.prev_kv {
        options = options.with_prev_key();
    }
    (request.range.key.into(), options)
}

pub(super) fn txn(request: TxnRequest) -> etcd::Txn {
    etcd::Txn::new()
        .when(request.compare.into_iter().map(compare).collect::<Vec<_>>())
        .and_then(request.success.into_iter().map(op).collect::<Vec<_>>())
        .or_else(request.failure.into_iter().map(op).collect::<Vec<_>>())
}

fn op(op: TxnOp) -> etcd::TxnOp {
    match op {
        TxnOp::Range(request) => {
            let (key, options) = range(request);
            etcd::TxnOp::get(key, Some(options))
        }
        TxnOp::Put(request) => {
            let (key, value, options) = put(request);
            etcd::TxnOp::put(key, value, Some(options))
        }
        TxnOp::DeleteRange(request) => {
            let (key, options) = delete_range(request);
            etcd::TxnOp::delete(key, Some(options))
        }
        TxnOp::Txn(request) => etcd::TxnOp::txn(txn(request)),
    }
}

fn compare(compare: Compare) -> etcd::Compare {
    let key = compare.range.key;
    let op = match compare.result {
        CompareResult::Equal => etcd::CompareOp::Equal,
        CompareResult::Greater => etcd::CompareOp::Greater,
        CompareResult::Less => etcd::CompareOp::Less,
        CompareResult::NotEqual => etcd::CompareOp::NotEqual,
        // etcd-client has no word for an unknown word. What etcd makes of one can be said in known ones, by the version,
        // which is never negative, and 0 for a key that is not there.
        CompareResult::Unknown => {
            let there = if matches!(compare.target, CompareTarget::Value(_)) { 0 } else { -1 };
            return etcd::Compare::version(key, etcd::CompareOp::Greater, there).with_range(compare.range.range_end);
        }
    };
    let made = match compare.target {
        CompareTarget::Version(version) => etcd::Compare::version(key, op, version),
        CompareTarget::CreateRevision(revision) => etcd::Compare::create_revision(key, op, revision),
        CompareTarget::ModRevision(revision) => etcd::Compare::mod_revision(key, op, revision),
        CompareTarget::Value(value) => etcd::Compare::value(key, op, value),
        CompareTarget::Lease(lease) => etcd::Compare::lease(key, op, lease),
        // Every key counts as equal.
        CompareTarget::Unknown if op == etcd::CompareOp::Equal => {
            etcd::Compare::version(key, etcd::CompareOp::Greater, -1)
        }
        CompareTarget::Unknown => etcd::Compare::version(key, etcd::CompareOp::Less, 0),
    };
    made.with_range(compare.range.range_end)
}

fn revision(header: Option<&etcd::proto::PbResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

pub(super) fn range_response(response: PbRangeResponse) -> RangeResponse {
    RangeResponse {
        revision: revision(response.header.as_ref()),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

pub(super) fn put_response(response: PbPutResponse) -> PutResponse {
    PutResponse { revision: revision(response.header.as_ref()), prev_kv: response.prev_kv.map(key_value) }
}

pub(super) fn delete_response(response: PbDeleteResponse) -> DeleteRangeResponse {
    DeleteRangeResponse {
        revision: revision(response.header.as_ref()),
        deleted: response.deleted,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

pub(super) fn txn_response(response: PbTxnResponse) -> TxnResponse {
    let responses = response.responses.into_iter().filter_map(|response| response.response);
    TxnResponse {
        revision: revision(response.header.as_ref()),
        succeeded: response.succeeded,
        responses: responses
            .map(|response| match response {
                PbTxnOpResponse::ResponseRange(response) => TxnOpResponse::Range(range_response(response)),
                PbTxnOpResponse::ResponsePut(response) => TxnOpResponse::Put(put_response(response)),
                PbTxnOpResponse::ResponseDeleteRange(response) => TxnOpResponse::DeleteRange(delete_response(response)),
                PbTxnOpResponse::ResponseTxn(response) => TxnOpResponse::Txn(txn_response(response)),
            })
            .collect(),
    }
}

fn key_value(kv: PbKeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::from(kv.key),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: Bytes::from(kv.value),
        lease: kv.lease,
    }
}

/// `None` for an event without a key, which etcd does not send.
pub(super) fn event(event: PbEvent) -> Option<Event> {
    Some(Event {
        kind: if event.r#type == 0 { EventKind::Put } else { EventKind::Delete },
        kv: key_value(event.kv?),
        prev_kv: event.prev_kv.map(key_value),
    })
}
