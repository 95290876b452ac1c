//! `v3lockpb.Lock`: a lock is the first place in a queue.

use std::sync::Arc;

use etcd_client::proto::PbResponseHeader;
use mesh_store_mvcc::{DeleteRangeRequest, KeyRange, RangeRequest};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};

use super::by_path::{HttpRequest, HttpResponse, method, serve_by_path, unary};
use super::queue::{self, Leaving, Queue};
use super::{Shared, lease as leases, status};

#[derive(Clone)]
pub(super) struct Lock {
    pub(super) shared: Arc<Shared>,
    /// Clearing up after callers that went away.
    pub(super) tasks: TaskTracker,
}

serve_by_path!(Lock, "v3lockpb.Lock");

#[derive(Clone, PartialEq, prost::Message)]
struct LockRequest {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(int64, tag = "2")]
    lease: i64,
}

/// The answer to `Lock`; without a key also the one to `Unlock`.
#[derive(Clone, PartialEq, prost::Message)]
struct LockResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<PbResponseHeader>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

impl Lock {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let limit = self.shared.options.max_request_bytes;
        match method(&request) {
            "Lock" => unary(request, limit, |request| self.lock(request)).await,
            "Unlock" => unary(request, limit, |request| self.unlock(request)).await,
            other => status::not_served(&format!("v3lockpb.Lock/{other}")).into_http(),
        }
    }

    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let Self { shared, tasks } = self;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let LockRequest { name, lease } = request.into_inner();
        let queue = Queue::new(&shared.store, &name);
        caller.read(&queue.range())?;
        caller.write(&KeyRange::single(queue.key(lease)))?;
        leases::check_keys(shared, &caller, lease).await?;
        if lease == 0 {
            caller.use_leases()?;
        }
        let lease = queue::session(&shared.store, lease).await?;
        let place = queue.enter(lease, Vec::new()).await?;
        let leaving = Leaving::unless_first(&shared.store, &place, tasks);
        queue.wait_for_older(place.revision).await?;
        // The lease may have ended while we waited.
        let own = shared.store.range(RangeRequest::get(place.key.clone())).await;
        let own = own.map_err(|error| status::of(&error))?;
        leaving.stay();
        if own.kvs.is_empty() {
            return Err(Status::new(Code::Unknown, "mutex: session is expired"));
        }
        let header = Some(shared.header(own.revision));
        Ok(Response::new(LockResponse { header, key: place.key.into() }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<LockResponse>, Status> {
        let shared = &self.shared;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let request = DeleteRangeRequest::key(request.into_inner().key);
        caller.write(&request.range)?;
        let deleted = shared.store.delete_range(request).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(LockResponse { header: Some(shared.header(deleted.revision)), key: Vec::new() }))
    }
}
