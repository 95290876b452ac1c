//! `v3electionpb.Election`: the leader is who has the first place in a queue, and the value of its key is what it proclaims.

use std::sync::Arc;

use etcd_client::proto::{PbKeyValue, PbLeaderKey, PbResponseHeader};
use futures::StreamExt as _;
use futures::future::ready;
use futures::stream::{self, BoxStream};
use mesh_store_mvcc::{Compare, DeleteRangeRequest, KeyRange, PutRequest, TxnOp, TxnRequest};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};

use super::by_path::{HttpRequest, HttpResponse, method, serve_by_path, streaming, unary};
use super::queue::{self, Leaving, Queue};
use super::{Shared, convert, lease as leases, status};

mod observer;

use observer::Observer;

#[derive(Clone)]
pub(super) struct Election {
    pub(super) shared: Arc<Shared>,
    /// Clearing up after callers that went away.
    pub(super) tasks: TaskTracker,
}

serve_by_path!(Election, "v3electionpb.Election");

#[derive(Clone, PartialEq, prost::Message)]
struct CampaignRequest {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(int64, tag = "2")]
    lease: i64,
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CampaignResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<PbResponseHeader>,
    #[prost(message, optional, tag = "2")]
    leader: Option<PbLeaderKey>,
}

/// `LeaderRequest`, of `Leader` and `Observe`.
#[derive(Clone, PartialEq, prost::Message)]
struct LeaderRequest {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaderResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<PbResponseHeader>,
    #[prost(message, optional, tag = "2")]
    kv: Option<PbKeyValue>,
}

/// `ProclaimRequest`; without a value also `ResignRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct ProclaimRequest {
    #[prost(message, optional, tag = "1")]
    leader: Option<PbLeaderKey>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The answer to `Proclaim` and to `Resign`.
#[derive(Clone, PartialEq, prost::Message)]
struct ProclaimResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<PbResponseHeader>,
}

/// etcd's Go server returns these as plain errors, which gRPC calls unknown.
fn plain(text: &str) -> Status {
    Status::new(Code::Unknown, text)
}

impl Election {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let limit = self.shared.options.max_request_bytes;
        match method(&request) {
            "Campaign" => unary(request, limit, |request| self.campaign(request)).await,
            "Proclaim" => unary(request, limit, |request| self.proclaim(request)).await,
            "Leader" => unary(request, limit, |request| self.leader(request)).await,
            "Observe" => streaming(request, limit, |request| ready(self.observe(request))).await,
            "Resign" => unary(request, limit, |request| self.resign(request)).await,
            other => status::not_served(&format!("v3electionpb.Election/{other}")).into_http(),
        }
    }

    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        let Self { shared, tasks } = self;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let queue = Queue::new(&shared.store, &name);
        caller.read(&queue.range())?;
        caller.write(&KeyRange::single(queue.key(lease)))?;
        leases::check_keys(shared, &caller, lease).await?;
        if lease == 0 {
            caller.use_leases()?;
        }
        let lease = queue::session(&shared.store, lease).await?;
        let place = queue.enter(lease, value.clone()).await?;
        let leaving = Leaving::unless_first(&shared.store, &place, tasks);
        let leader = PbLeaderKey { name, key: place.key.to_vec(), rev: place.revision, lease };
        let mut seen = place.seen;
        if place.found.is_some_and(|found| found != value) {
            seen = self.announce(&leader, value).await?;
        }
        queue.wait_for_older(place.revision).await?;
        leaving.stay();
        Ok(Response::new(CampaignResponse { header: Some(shared.header(seen)), leader: Some(leader) }))
    }

    /// Writes the leader's value, if it is still the one it was elected as; returns the store's revision.
    async fn announce(&self, leader: &PbLeaderKey, value: Vec<u8>) -> Result<i64, Status> {
        let put = PutRequest { lease: leader.lease, ..PutRequest::new(leader.key.clone(), value) };
        let request = TxnRequest {
            compare: vec![Compare::create_revision(leader.key.clone(), leader.rev)],
            success: vec![TxnOp::Put(put)],
            failure: vec![],
        };
        let response = self.shared.store.txn(request).await.map_err(|error| status::of(&error))?;
        if response.succeeded { Ok(response.revision) } else { Err(plain("election: not leader")) }
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        let shared = &self.shared;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let leader = leader.ok_or_else(missing_leader)?;
        caller.write(&KeyRange::single(leader.key.clone()))?;
        leases::check_keys(shared, &caller, leader.lease).await?;
        let revision = self.announce(&leader, value).await?;
        Ok(Response::new(ProclaimResponse { header: Some(shared.header(revision)) }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let shared = &self.shared;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let queue = Queue::new(&shared.store, &request.get_ref().name);
        caller.read(&queue.range())?;
        let (first, revision) = queue.first().await?;
        let kv = first.ok_or_else(|| plain("election: no leader"))?;
        let kv = Some(convert::key_value(kv));
        Ok(Response::new(LeaderResponse { header: Some(shared.header(revision)), kv }))
    }

    fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<BoxStream<'static, Result<LeaderResponse, Status>>>, Status> {
        let shared = &self.shared;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let name = request.into_inner().name;
        caller.read(&Queue::new(&shared.store, &name).range())?;
        let observer = Observer::new(Arc::clone(shared), name);
        let leaders = stream::try_unfold(observer, |mut observer| async move {
            let leader = observer.next().await?;
            Ok(Some((leader, observer)))
        });
        Ok(Response::new(leaders.boxed()))
    }

    /// Who has resigned already, or was never elected, has nothing to give up: that is no error.
    async fn resign(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        let shared = &self.shared;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let leader = request.into_inner().leader.ok_or_else(missing_leader)?;
        caller.write(&KeyRange::single(leader.key.clone()))?;
        let request = TxnRequest {
            compare: vec![Compare::create_revision(leader.key.clone(), leader.rev)],
            success: vec![TxnOp::DeleteRange(DeleteRangeRequest::key(leader.key))],
            failure: vec![],
        };
        let response = shared.store.txn(request).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(ProclaimResponse { header: Some(shared.header(response.revision)) }))
    }
}

fn missing_leader() -> Status {
    plain("\"leader\" field must be provided")
}
