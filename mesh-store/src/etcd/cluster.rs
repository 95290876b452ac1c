//! `etcdserverpb.Cluster`: who the members are. Changing them is not done through etcd's API.

use std::sync::Arc;

use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse,
    PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse,
    PbMemberUpdateRequest, PbMemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::{Shared, status};

pub(super) struct Cluster(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbClusterService for Cluster {
    async fn member_list(
        &self,
        request: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?;
        let member = PbMember {
            id: shared.store.identity().member_id,
            name: shared.options.member_name.clone(),
            client_ur_ls: shared.options.client_urls.clone(),
            ..PbMember::default()
        };
        Ok(Response::new(PbMemberListResponse { header: Some(shared.header_now()), members: vec![member] }))
    }

    async fn member_add(&self, _: Request<PbMemberAddRequest>) -> Result<Response<PbMemberAddResponse>, Status> {
        Err(status::not_served("changing members through etcd's API"))
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        Err(status::not_served("changing members through etcd's API"))
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        Err(status::not_served("changing members through etcd's API"))
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        Err(status::not_served("changing members through etcd's API"))
    }
}
