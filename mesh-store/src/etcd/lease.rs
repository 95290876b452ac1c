//! `etcdserverpb.Lease`.

use std::sync::Arc;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseStatus,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use mesh_store_mvcc::{Error as Refusal, LeaseId};
use tonic::{Request, Response, Status, Streaming};

use super::{Shared, status};
use crate::backend::Error;

pub(super) struct Lease(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbLeaseService for Lease {
    type LeaseKeepAliveStream = BoxStream<'static, Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        let request = request.into_inner();
        let granted = shared.store.lease_grant(request.id, request.ttl).await.map_err(|error| status::of(&error))?;
        let header = Some(shared.header(granted.revision));
        Ok(Response::new(PbLeaseGrantResponse { header, id: granted.id, ttl: granted.ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        let revision = shared.store.lease_revoke(request.into_inner().id).await;
        let revision = revision.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbLeaseRevokeResponse { header: Some(shared.header(revision)) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.gate.admit(request.extensions(), &self.0.metrics)?.administer()?;
        let beats = (Arc::clone(&self.0), request.into_inner());
        let answers = stream::try_unfold(beats, |(shared, mut requests)| async move {
            let Some(request) = requests.message().await? else { return Ok(None) };
            let answer = renew(&shared, request.id).await?;
            Ok(Some((answer, (shared, requests))))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        let request = request.into_inner();
        let lease = shared.store.lease_time_to_live(request.id, request.keys).await;
        let lease = lease.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbLeaseTimeToLiveResponse {
            header: Some(shared.header_now()),
            id: lease.id,
            ttl: lease.ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys.into_iter().map(Into::into).collect(),
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        let leases = shared.store.lease_list().await.map_err(|error| status::of(&error))?;
        let leases = leases.into_iter().map(|id| PbLeaseStatus { id }).collect();
        Ok(Response::new(PbLeaseLeasesResponse { header: Some(shared.header_now()), leases }))
    }
}

/// A lease that is gone is answered with a time to live of 0, as in etcd; the stream goes on for the others.
async fn renew(shared: &Shared, id: LeaseId) -> Result<PbLeaseKeepAliveResponse, Status> {
    let ttl = match shared.store.lease_keep_alive(id).await {
        Ok(ttl) => ttl,
        Err(Error::Refused(Refusal::LeaseNotFound)) => 0,
        Err(error) => return Err(status::of(&error)),
    };
    Ok(PbLeaseKeepAliveResponse { header: Some(shared.header_now()), id, ttl })
}
