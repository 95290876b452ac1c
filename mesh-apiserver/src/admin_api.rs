//! What meshctl asks. One file for each group of calls; every refusal says what to do about it.

mod bearer;
mod certs;
mod cilium;
mod exchange;
mod lists;
mod peering;
mod preflight;
mod replicas;
mod sights;
mod status;
mod store;
mod tokens;
mod troubleshoot;

use std::sync::Arc;

use ::certs::{Authorities, LiveLeaf};
use futures::FutureExt;
use mesh_proto::v1;
use mesh_proto::v1::admin_client::AdminClient;
use mesh_proto::v1::admin_server::Admin;
use mesh_store::Store;
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::agent_api::Presence;
use crate::callers::Asker;
use crate::membership::Membership;
use crate::rotation::Parties;
use crate::{callers, controller, own, view};

pub use bearer::Bearer;
pub use replicas::Others;
pub(crate) use status::{agents_at, newest};

/// Cheap to clone: one stands on the mesh port, one on the Unix socket.
#[derive(Clone)]
pub struct AdminApi {
    pub cluster: ClusterName,
    pub cluster_id: ClusterId,
    pub encryption: Encryption,
    /// The number of this replica.
    pub replica: u64,
    pub parties: Parties,
    pub store: Arc<dyn Store>,
    pub membership: Membership,
    /// Where the store is, for people.
    pub backend: String,
    pub view: view::Handle,
    pub presence: Presence,
    pub controller: controller::Handle,
    /// What this cluster shows to others: `remote-<own>`.
    pub remote: Arc<LiveLeaf>,
    pub authorities: Arc<Authorities>,
}

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, or "unknown": see `build.rs`.
pub const COMMIT: &str = env!("ISTHMUS_COMMIT");

impl AdminApi {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        callers::admin(request.extensions(), &self.cluster)
    }

    /// For the questions that replicas pass on to the one that knows.
    fn admit_replicas_too<T>(&self, request: &Request<T>) -> Result<Asker, Status> {
        callers::admin_or_replica(request.extensions(), &self.cluster)
    }
}

#[tonic::async_trait]
impl Admin for AdminApi {
    async fn get_version(
        &self,
        request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(v1::GetVersionResponse {
            version: VERSION.to_owned(),
            commit: COMMIT.to_owned(),
            cluster: self.cluster.to_string(),
            cluster_id: self.cluster_id.get(),
        }))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let asker = self.admit_replicas_too(&request)?;
        let ask =
            |mut holder: AdminClient<Channel>| async move { holder.get_status(v1::GetStatusRequest {}).await }.boxed();
        if let Some(answer) = self.holders_answer(asker, ask).await? {
            return Ok(answer);
        }
        self.status().await.map(Response::new)
    }

    async fn get_declaration(
        &self,
        request: Request<v1::GetDeclarationRequest>,
    ) -> Result<Response<v1::ClusterDeclaration>, Status> {
        self.admit(&request)?;
        let own = own::declaration(&*self.store).await?;
        Ok(Response::new((&own).into()))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        self.admit(&request)?;
        self.join_token(request.into_inner()).await.map(Response::new)
    }

    async fn create_node_token(
        &self,
        request: Request<v1::CreateNodeTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        self.admit(&request)?;
        self.node_token(request.into_inner()).await.map(Response::new)
    }

    async fn preflight(
        &self,
        request: Request<v1::PreflightRequest>,
    ) -> Result<Response<v1::PreflightResponse>, Status> {
        self.admit(&request)?;
        self.look_at(request.into_inner().other).await.map(Response::new)
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        self.admit(&request)?;
        self.tokens().await.map(Response::new)
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        self.admit(&request)?;
        self.revoke(&request.into_inner().id).await.map(Response::new)
    }

    async fn connect_peer(
        &self,
        request: Request<v1::ConnectPeerRequest>,
    ) -> Result<Response<v1::ConnectPeerResponse>, Status> {
        self.admit(&request)?;
        self.connect(&request.into_inner().token).await.map(Response::new)
    }

    async fn connect_cilium(
        &self,
        request: Request<v1::ConnectCiliumRequest>,
    ) -> Result<Response<v1::ConnectPeerResponse>, Status> {
        self.admit(&request)?;
        self.join_cilium(request.into_inner()).await.map(Response::new)
    }

    async fn issue_local(
        &self,
        request: Request<v1::IssueLocalRequest>,
    ) -> Result<Response<v1::IssueLocalResponse>, Status> {
        self.admit(&request)?;
        self.local_certificate(&request.into_inner().csr_pem).map(Response::new)
    }

    async fn disconnect_peer(
        &self,
        request: Request<v1::DisconnectPeerRequest>,
    ) -> Result<Response<v1::DisconnectPeerResponse>, Status> {
        self.admit(&request)?;
        self.disconnect(&request.into_inner().peer_name).await.map(Response::new)
    }

    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        let asker = self.admit_replicas_too(&request)?;
        let ask =
            |mut holder: AdminClient<Channel>| async move { holder.list_peers(v1::ListPeersRequest {}).await }.boxed();
        if let Some(answer) = self.holders_answer(asker, ask).await? {
            return Ok(answer);
        }
        Ok(Response::new(v1::ListPeersResponse { peers: self.controller.peers().await }))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        let asker = self.admit_replicas_too(&request)?;
        let request = request.into_inner();
        let wanted = request.clone();
        let ask = move |mut holder: AdminClient<Channel>| {
            let wanted = wanted.clone();
            async move { holder.list_services(wanted).await }.boxed()
        };
        if let Some(answer) = self.holders_answer(asker, ask).await? {
            return Ok(answer);
        }
        let exchange = self.exchange().await?;
        Ok(Response::new(self.services(&request, &exchange)))
    }

    async fn list_endpoints(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListEndpointsResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(self.endpoints(&request.into_inner())))
    }

    async fn list_nodes(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListNodesResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(self.nodes(&request.into_inner())))
    }

    async fn list_identities(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListIdentitiesResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(self.identities(&request.into_inner())))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        self.admit_replicas_too(&request)?;
        Ok(Response::new(v1::ListAgentsResponse { agents: self.connected_agents() }))
    }

    async fn await_sights(
        &self,
        request: Request<v1::AwaitSightsRequest>,
    ) -> Result<Response<v1::AwaitSightsResponse>, Status> {
        self.admit_replicas_too(&request)?;
        Ok(Response::new(self.sights(request.into_inner().known_version).await))
    }

    async fn troubleshoot(
        &self,
        request: Request<v1::TroubleshootRequest>,
    ) -> Result<Response<v1::TroubleshootResponse>, Status> {
        self.admit(&request)?;
        self.walks(&request.into_inner().peer_name).await.map(Response::new)
    }

    async fn get_certificates(
        &self,
        request: Request<v1::GetCertificatesRequest>,
    ) -> Result<Response<v1::GetCertificatesResponse>, Status> {
        let asker = self.admit_replicas_too(&request)?;
        let ask = |mut holder: AdminClient<Channel>| {
            async move { holder.get_certificates(v1::GetCertificatesRequest {}).await }.boxed()
        };
        if let Some(answer) = self.holders_answer(asker, ask).await? {
            return Ok(answer);
        }
        self.certificates().await.map(Response::new)
    }

    async fn get_held(&self, request: Request<v1::GetHeldRequest>) -> Result<Response<v1::GetHeldResponse>, Status> {
        self.admit_replicas_too(&request)?;
        Ok(Response::new(self.parties.held().await))
    }

    async fn rotate_leaves(
        &self,
        request: Request<v1::RotateLeavesRequest>,
    ) -> Result<Response<v1::RotateLeavesResponse>, Status> {
        let asker = self.admit_replicas_too(&request)?;
        let request = request.into_inner();
        let wanted = request.clone();
        let ask = move |mut holder: AdminClient<Channel>| {
            let wanted = wanted.clone();
            async move { holder.rotate_leaves(wanted).await }.boxed()
        };
        if let Some(answer) = self.holders_answer(asker, ask).await? {
            return Ok(answer);
        }
        self.rotate_leaves_of(request.names).await.map(Response::new)
    }

    async fn rotate_ca(&self, request: Request<v1::RotateCaRequest>) -> Result<Response<v1::RotateCaResponse>, Status> {
        let asker = self.admit_replicas_too(&request)?;
        let ask =
            |mut holder: AdminClient<Channel>| async move { holder.rotate_ca(v1::RotateCaRequest {}).await }.boxed();
        if let Some(answer) = self.holders_answer(asker, ask).await? {
            return Ok(answer);
        }
        self.begin_rotation().await.map(Response::new)
    }

    async fn abort_ca_rotation(
        &self,
        request: Request<v1::AbortCaRotationRequest>,
    ) -> Result<Response<v1::AbortCaRotationResponse>, Status> {
        self.admit(&request)?;
        self.abort_rotation().await.map(Response::new)
    }
}
