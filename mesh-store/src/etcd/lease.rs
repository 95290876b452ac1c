//! `etcdserverpb.Lease`: for those who may write something; who ends a lease must be allowed to write all of its keys.

use std::sync::Arc;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseStatus,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use mesh_store_mvcc::{Error as Refusal, KeyRange, LeaseId};
use tonic::{Request, Response, Status, Streaming};

use super::gate::Caller;
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
        shared.gate.admit(request.extensions(), &shared.metrics)?.use_leases()?;
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
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        caller.use_leases()?;
        let id = request.into_inner().id;
        check_keys(shared, &caller, id).await?;
        let revision = shared.store.lease_revoke(id).await;
        let revision = revision.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbLeaseRevokeResponse { header: Some(shared.header(revision)) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.gate.admit(request.extensions(), &self.0.metrics)?.use_leases()?;
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
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        caller.use_leases()?;
        let request = request.into_inner();
        let lease = shared.store.lease_time_to_live(request.id, request.keys).await;
        let lease = lease.map_err(|error| status::of(&error))?;
        lease.keys.iter().try_for_each(|key| caller.read(&KeyRange::single(key.clone())))?;
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

/// Who could not write a lease's keys may neither end it nor put more on it: the keys go with it.
pub(super) async fn check_keys(shared: &Shared, caller: &Caller, id: LeaseId) -> Result<(), Status> {
    if id == 0 || caller.is_administrator() {
        return Ok(());
    }
    let lease = shared.store.lease_time_to_live(id, true).await.map_err(|error| status::of(&error))?;
    lease.keys.into_iter().try_for_each(|key| caller.write(&KeyRange::single(key)))
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
