//! What `meshctl store` asks: the store itself, apart from what is kept in it.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use mesh_proto::v1;
use mesh_proto::v1::store_admin_server::StoreAdmin;
use mesh_store::backend::{Class, Error, Member};
use tonic::{Request, Response, Status};

use super::AdminApi;
use crate::agent_api::unavailable;
use crate::args::{endpoint, is_host};

fn refused(error: &Error) -> Status {
    match error.class() {
        Class::Invalid | Class::Alarm => Status::failed_precondition(error.to_string()),
        Class::Retryable | Class::Fatal => unavailable(error),
    }
}

fn shown(members: Vec<Member>) -> Vec<v1::StoreMember> {
    let shown = |member: Member| v1::StoreMember {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    };
    members.into_iter().map(shown).collect()
}

/// The URL with another host in the place of its own.
fn elsewhere(url: &str, host: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (_, port) = rest.rsplit_once(':')?;
    Some(format!("{scheme}://{}", endpoint(host, port.parse().ok()?)))
}

impl AdminApi {
    /// A replica at `host` with the ports of this one.
    async fn member_like_this(&self, id: u64, host: &str) -> Result<Member, Error> {
        let own = self.store.identity().member_id;
        let members = self.store.members(false).await?;
        let urls = |of: fn(&Member) -> &[String]| {
            let urls = members.iter().find(|member| member.id == own).map_or(&[][..], of);
            urls.iter().filter_map(|url| elsewhere(url, host)).collect()
        };
        Ok(Member {
            id,
            name: format!("{}-{id}", self.cluster),
            peer_urls: urls(|member| &member.peer_urls),
            client_urls: urls(|member| &member.client_urls),
            is_learner: false,
        })
    }
}

#[tonic::async_trait]
impl StoreAdmin for AdminApi {
    type SaveSnapshotStream = BoxStream<'static, Result<v1::SnapshotChunk, Status>>;

    async fn get_store(&self, request: Request<v1::GetStoreRequest>) -> Result<Response<v1::GetStoreResponse>, Status> {
        self.admit(&request)?;
        let status = self.store.status().await.map_err(|error| refused(&error))?;
        let members = self.store.members(false).await.map_err(|error| refused(&error))?;
        let alarms = self.store.alarms(false).await.map_err(|error| refused(&error))?;
        let identity = self.store.identity();
        Ok(Response::new(v1::GetStoreResponse {
            cluster: self.cluster.to_string(),
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            leader: status.leader,
            raft_term: identity.raft_term,
            raft_index: status.raft_index,
            raft_applied_index: status.raft_applied_index,
            revision: status.revision,
            compact_revision: status.compact_revision,
            keys: status.keys,
            db_size: status.db_size,
            db_size_in_use: status.db_size_in_use,
            is_learner: status.is_learner,
            members: shown(members),
            alarms: alarms
                .into_iter()
                .map(|alarm| v1::StoreAlarm { kind: alarm.kind.name().to_owned(), member_id: alarm.member_id })
                .collect(),
            backend: self.backend.clone(),
        }))
    }

    async fn check_store(
        &self,
        request: Request<v1::CheckStoreRequest>,
    ) -> Result<Response<v1::CheckStoreResponse>, Status> {
        self.admit(&request)?;
        let hash = self.store.hash_kv(request.into_inner().revision).await.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::CheckStoreResponse {
            hash: hash.hash,
            hash_revision: hash.hash_revision,
            compact_revision: hash.compact_revision,
        }))
    }

    async fn compact_store(
        &self,
        request: Request<v1::CompactStoreRequest>,
    ) -> Result<Response<v1::CompactStoreResponse>, Status> {
        self.admit(&request)?;
        let compact_revision = request.into_inner().revision;
        let revision = self.store.compact(compact_revision).await.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::CompactStoreResponse { revision, compact_revision }))
    }

    async fn add_store_member(
        &self,
        request: Request<v1::AddStoreMemberRequest>,
    ) -> Result<Response<v1::StoreMembersResponse>, Status> {
        self.admit(&request)?;
        let v1::AddStoreMemberRequest { id, host } = request.into_inner();
        if id == 0 || !is_host(&host) {
            return Err(Status::invalid_argument(format!("{id}={host:?} is not ID=HOST, such as 4=10.0.0.4")));
        }
        let member = self.member_like_this(id, &host).await.map_err(|error| refused(&error))?;
        self.store.member_add(member).await.map_err(|error| refused(&error))?;
        // This replica may not have applied the change yet.
        let members = self.store.members(true).await.map_err(|error| refused(&error))?;
        tracing::info!(member = id, host, "a replica was added to the store: start it with --replica-join");
        Ok(Response::new(v1::StoreMembersResponse { members: shown(members) }))
    }

    async fn remove_store_member(
        &self,
        request: Request<v1::RemoveStoreMemberRequest>,
    ) -> Result<Response<v1::StoreMembersResponse>, Status> {
        self.admit(&request)?;
        let id = request.into_inner().id;
        let members = self.store.member_remove(id).await.map_err(|error| refused(&error))?;
        tracing::info!(member = id, "a replica was removed from the store");
        Ok(Response::new(v1::StoreMembersResponse { members: shown(members) }))
    }

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        self.admit(&request)?;
        let backup = self.store.backup().await.map_err(|error| refused(&error))?;
        let chunks = backup.chunks.map(|chunk| {
            let chunk = chunk.map_err(|error| refused(&error))?;
            Ok(v1::SnapshotChunk { remaining_bytes: chunk.remaining, data: chunk.data })
        });
        Ok(Response::new(chunks.boxed()))
    }
}
