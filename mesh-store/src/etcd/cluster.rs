//! `etcdserverpb.Cluster`: who the members are. Everyone may ask; changing them is for administrators.

use std::sync::Arc;

use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse,
    PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse,
    PbMemberUpdateRequest, PbMemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::{Shared, status};
use crate::backend::Member;

pub(super) struct Cluster(pub(super) Arc<Shared>);

impl Cluster {
    fn members(&self, list: Vec<Member>) -> Vec<PbMember> {
        list.into_iter().map(|member| self.member(member)).collect()
    }

    fn member(&self, member: Member) -> PbMember {
        let shared = &self.0;
        // A replica that has told nobody its name or URLs knows them from its own options.
        let is_own = member.id == shared.store.identity().member_id;
        let Member { mut name, mut client_urls, .. } = member;
        if is_own && name.is_empty() {
            name.clone_from(&shared.options.member_name);
        }
        if is_own && client_urls.is_empty() {
            client_urls.clone_from(&shared.options.client_urls);
        }
        PbMember {
            id: member.id,
            name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: client_urls,
            is_learner: member.is_learner,
        }
    }

    fn administer<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.0.gate.admit(request.extensions(), &self.0.metrics)?.administer()
    }
}

#[tonic::async_trait]
impl PbClusterService for Cluster {
    async fn member_list(
        &self,
        request: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?;
        let list = shared.store.members(request.into_inner().linearizable).await.map_err(|error| status::of(&error))?;
        let header = Some(shared.header_now());
        Ok(Response::new(PbMemberListResponse { header, members: self.members(list) }))
    }

    async fn member_add(&self, request: Request<PbMemberAddRequest>) -> Result<Response<PbMemberAddResponse>, Status> {
        self.administer(&request)?;
        let shared = &self.0;
        let request = request.into_inner();
        let wanted = Member { peer_urls: request.peer_ur_ls, is_learner: request.is_learner, ..Member::default() };
        let added = shared.store.member_add(wanted).await.map_err(|error| status::of(&error))?;
        let list = shared.store.members(false).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbMemberAddResponse {
            header: Some(shared.header_now()),
            member: Some(self.member(added)),
            members: self.members(list),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        self.administer(&request)?;
        let left = self.0.store.member_remove(request.into_inner().id).await.map_err(|error| status::of(&error))?;
        let header = Some(self.0.header_now());
        Ok(Response::new(PbMemberRemoveResponse { header, members: self.members(left) }))
    }

    async fn member_update(
        &self,
        request: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        self.administer(&request)?;
        let request = request.into_inner();
        let list =
            self.0.store.member_update(request.id, request.peer_ur_ls).await.map_err(|error| status::of(&error))?;
        let header = Some(self.0.header_now());
        Ok(Response::new(PbMemberUpdateResponse { header, members: self.members(list) }))
    }

    async fn member_promote(
        &self,
        request: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        self.administer(&request)?;
        let list = self.0.store.member_promote(request.into_inner().id).await.map_err(|error| status::of(&error))?;
        let header = Some(self.0.header_now());
        Ok(Response::new(PbMemberPromoteResponse { header, members: self.members(list) }))
    }
}
