//! `etcdserverpb.Maintenance`: status, alarms, the hash of the history, backup, leadership. What only etcd's own data file
//! could answer is refused.

use std::sync::Arc;

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService,
    PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest,
    PbStatusResponse,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{ETCD_VERSION, Shared, alarm, status};

pub(super) struct Maintenance(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbMaintenanceService for Maintenance {
    type SnapshotStream = BoxStream<'static, Result<PbSnapshotResponse, Status>>;

    async fn status(&self, request: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?;
        let status = shared.store.status().await.map_err(|error| status::of(&error))?;
        let alarms = alarm::raised(shared.store.as_ref()).await;
        let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Response::new(PbStatusResponse {
            header: Some(shared.header(status.revision)),
            version: ETCD_VERSION.to_owned(),
            storage_version: ETCD_VERSION.to_owned(),
            db_size: bytes(status.db_size),
            db_size_in_use: bytes(status.db_size_in_use),
            db_size_quota: bytes(status.db_size_quota),
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: shared.store.identity().raft_term,
            raft_applied_index: status.raft_applied_index,
            is_learner: status.is_learner,
            errors: alarms,
            ..PbStatusResponse::default()
        }))
    }

    async fn alarm(&self, request: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        let shared = &self.0;
        let caller = shared.gate.admit(request.extensions(), &shared.metrics)?;
        let request = request.into_inner();
        if request.action != alarm::GET {
            caller.administer()?;
        }
        let alarms = alarm::act(shared.store.as_ref(), &request).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbAlarmResponse { header: Some(shared.header_now()), alarms }))
    }

    /// Nothing is to be done: the log is purged and memory is given back as the store goes.
    async fn defragment(
        &self,
        request: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        self.0.gate.admit(request.extensions(), &self.0.metrics)?.administer()?;
        Ok(Response::new(PbDefragmentResponse { header: Some(self.0.header_now()) }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Err(status::not_served("the hash of etcd's data file (HashKV hashes what is in the store)"))
    }

    async fn hash_kv(&self, request: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        let hash = shared.store.hash_kv(request.into_inner().revision).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbHashKvResponse {
            header: Some(shared.header(hash.revision)),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    /// The store's own backup, which says so in its first line: `meshctl store snapshot restore` takes it, etcdutl does not.
    async fn snapshot(&self, request: Request<PbSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        let header = shared.header_now();
        let backup = shared.store.backup().await.map_err(|error| status::of(&error))?;
        let parts = backup.chunks.map(move |chunk| {
            let chunk = chunk.map_err(|error| status::of(&error))?;
            Ok(PbSnapshotResponse {
                header: Some(header),
                remaining_bytes: chunk.remaining,
                blob: chunk.data.into(),
                version: ETCD_VERSION.to_owned(),
            })
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?.administer()?;
        shared.store.move_leader(request.into_inner().target_id).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(PbMoveLeaderResponse { header: Some(shared.header_now()) }))
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(status::not_served("Downgrade"))
    }
}
