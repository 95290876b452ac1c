//! `etcdserverpb.KV`.

use std::collections::BTreeSet;
use std::sync::Arc;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnRequest, PbTxnResponse,
};
use futures::stream::BoxStream;
use mesh_store_mvcc::{Error as Refusal, KeyRange, LeaseId, TxnOp, TxnRequest};
use tonic::{Request, Response, Status};

use super::{Shared, check, convert, lease, status};

pub(super) struct Kv(pub(super) Arc<Shared>);

impl Kv {
    /// A change that would not fit into the log.
    fn check_size(&self, request: &impl prost::Message) -> Result<(), Status> {
        verdict(check::size(request, self.0.options.max_request_bytes))
    }
}

/// A check's verdict as the answer.
fn verdict<T>(checked: Result<T, Refusal>) -> Result<T, Status> {
    checked.map_err(|refusal| status::refused(&refusal))
}

/// What a transaction may put keys on.
fn leases(request: &TxnRequest) -> BTreeSet<LeaseId> {
    let ops = request.success.iter().chain(&request.failure);
    ops.flat_map(|op| match op {
        TxnOp::Put(put) if put.lease != 0 => BTreeSet::from([put.lease]),
        TxnOp::Txn(nested) => leases(nested),
        _ => BTreeSet::new(),
    })
    .collect()
}

#[tonic::async_trait]
impl PbKvService for Kv {
    type RangeStreamStream = BoxStream<'static, Result<PbRangeStreamResponse, Status>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let shared = &self.0;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        shared.metrics.range_calls.get_or_create(&caller.label).inc();
        let request = request.into_inner();
        verdict(check::range(&request))?;
        let request = verdict(convert::range(request))?;
        caller.read(&request.range)?;
        let answer = match caller.overlay(&request.range) {
            Some(overlay) => shared.store.range_through(request, overlay),
            None => shared.store.range(request),
        };
        let response = answer.await.map_err(|error| status::of(&error))?;
        let header = shared.header(response.revision);
        Ok(Response::new(convert::range_response(response, header)))
    }

    async fn range_stream(
        &self,
        _request: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(status::not_served("RangeStream of etcd 3.7 (a Range with a limit gives the same keys page by page)"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let shared = &self.0;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let request = request.into_inner();
        verdict(check::put(&request))?;
        self.check_size(&request)?;
        let request = convert::put(request);
        caller.change(&KeyRange::single(request.key.clone()), request.prev_kv)?;
        lease::check_keys(shared, &caller, request.lease).await?;
        let response = shared.store.put(request).await.map_err(|error| status::of(&error))?;
        let header = shared.header(response.revision);
        Ok(Response::new(convert::put_response(response, header)))
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        let shared = &self.0;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let request = request.into_inner();
        verdict(check::delete_range(&request))?;
        self.check_size(&request)?;
        let request = convert::delete_range(request);
        caller.change(&request.range, request.prev_kv)?;
        let response = shared.store.delete_range(request).await.map_err(|error| status::of(&error))?;
        let header = shared.header(response.revision);
        Ok(Response::new(convert::delete_response(response, header)))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let shared = &self.0;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let request = request.into_inner();
        verdict(check::txn(&request, shared.options.max_txn_ops))?;
        let oversized = if check::is_read(&request) { Ok(()) } else { self.check_size(&request) };
        let request = verdict(convert::txn(request))?;
        verdict(request.check_duplicates())?;
        oversized?;
        caller.txn(&request)?;
        if !caller.is_administrator() {
            for lease in leases(&request) {
                lease::check_keys(shared, &caller, lease).await?;
            }
        }
        let response = shared.store.txn(request).await.map_err(|error| status::of(&error))?;
        let header = shared.header(response.revision);
        Ok(Response::new(convert::txn_response(response, header)))
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        let shared = &self.0;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        caller.administer()?;
        let revision = request.into_inner().revision;
        let revision = shared.store.compact(revision).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbCompactionResponse { header: Some(shared.header(revision)) }))
    }
}
