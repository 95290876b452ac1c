//! What `meshctl store` asks: the store itself, apart from what is kept in it.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use mesh_proto::v1;
use mesh_proto::v1::store_admin_server::StoreAdmin;
use mesh_store::backend::{Class, Error};
use mesh_store::mvcc::AlarmKind;
use tonic::{Request, Response, Status};

use super::AdminApi;
use crate::agent_api::unavailable;

fn refused(error: &Error) -> Status {
    match error.class() {
        Class::Invalid => Status::failed_precondition(error.to_string()),
        Class::Retryable | Class::Fatal => unavailable(error),
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
            members: members
                .into_iter()
                .map(|member| v1::StoreMember {
                    id: member.id,
                    name: member.name,
                    peer_urls: member.peer_urls,
                    client_urls: member.client_urls,
                    is_learner: member.is_learner,
                })
                .collect(),
            alarms: alarms
                .into_iter()
                .map(|alarm| v1::StoreAlarm {
                    kind: match alarm.kind {
                        AlarmKind::NoSpace => "NOSPACE".to_owned(),
                        AlarmKind::Corrupt => "CORRUPT".to_owned(),
                    },
                    member_id: alarm.member_id,
                })
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
