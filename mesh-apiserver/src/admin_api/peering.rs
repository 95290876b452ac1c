//! Tokens, connect and disconnect.

use std::time::Duration;

use certs::Token;
use certs::token::{Bearer, Claims};
use federation::join::tokens::Tokens;
use federation::join::{Joined, RedeemError, redeem_and_store};
use federation::{Declaration, peer};
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, clock};
use mesh_types::{ClusterId, ClusterName, NodeName};
use tonic::{Code, Status};

use super::AdminApi;
use crate::agent_api::join::token_code;
use crate::{own, trust};

const DEFAULT_TTL: Duration = Duration::from_hours(1);
const MAX_TTL: Duration = Duration::from_hours(7 * 24);

impl AdminApi {
    pub(super) async fn join_token(
        &self,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::CreateTokenResponse, Status> {
        let name = cluster_name(&request.peer_name)?;
        let id = ClusterId::new(request.peer_id).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if name == self.cluster {
            return Err(Status::failed_precondition(format!(
                "this cluster is named {name} itself: names must be unique in a mesh"
            )));
        }
        if id == self.cluster_id {
            return Err(Status::failed_precondition(format!(
                "{} and {name} both have cluster id {id}: give one of them another id (its workloads have to be restarted)",
                self.cluster
            )));
        }
        let own = own::declaration(&*self.store).await?;
        self.token(&own, Bearer::Cluster { name, id }, request.ttl_seconds).await
    }

    pub(super) async fn node_token(
        &self,
        request: v1::CreateNodeTokenRequest,
    ) -> Result<v1::CreateTokenResponse, Status> {
        if request.node.is_empty() || request.node.contains('/') {
            return Err(Status::invalid_argument("name the node that the token is for, as its Node object is named"));
        }
        let own = own::declaration(&*self.store).await?;
        self.token(&own, Bearer::Node(NodeName(request.node)), request.ttl_seconds).await
    }

    async fn token(&self, own: &Declaration, bearer: Bearer, ttl: u32) -> Result<v1::CreateTokenResponse, Status> {
        let ttl = if ttl == 0 { DEFAULT_TTL } else { Duration::from_secs(ttl.into()) };
        if ttl > MAX_TTL {
            return Err(Status::invalid_argument(format!("a token lives at most {} s", MAX_TTL.as_secs())));
        }
        if own.mesh_endpoints.is_empty() {
            return Err(Status::failed_precondition(
                "this server does not know at which address others reach it: start it with --advertise-address",
            ));
        }
        let now = clock::unix_seconds();
        let expires = now + ttl.as_secs();
        let ca = self.parties.credentials.ca.get().hash();
        let token = Token::issue(Claims::from(own), ca, own.mesh_endpoints.clone(), bearer, expires)
            .map_err(|error| Status::internal(ErrorChain(&error).to_string()))?;
        let tokens = Tokens::new(std::sync::Arc::clone(&self.store));
        let record = tokens
            .create(&token, now)
            .await
            .map_err(|error| Status::new(token_code(&error), ErrorChain(&error).to_string()))?;
        tracing::info!(id = record.id, bearer = %record.bearer, ttl_s = ttl.as_secs(), "token issued");
        Ok(v1::CreateTokenResponse {
            token: token.text().to_string(),
            expires_unix_nanos: expires.saturating_mul(1_000_000_000),
            id: record.id,
        })
    }

    pub(super) async fn connect(&self, token: &str) -> Result<v1::ConnectPeerResponse, Status> {
        let own = own::declaration(&*self.store).await?;
        let joined = redeem_and_store(&self.store, &own, token, clock::unix_nanos()).await.map_err(|error| {
            tracing::warn!(error = %ErrorChain(&error), "connect refused");
            Status::new(redeem_code(&error), ErrorChain(&error).to_string())
        })?;
        // The peer calls at once: do not make it wait for the watch of peer records.
        self.refresh_trust().await;
        Ok(answer(&joined))
    }

    pub(super) async fn disconnect(&self, name: &str) -> Result<v1::DisconnectPeerResponse, Status> {
        let name = cluster_name(name)?;
        let was_connected = peer::disconnect(&*self.store, &name)
            .await
            .map_err(|error| Status::unavailable(ErrorChain(&error).to_string()))?;
        for former in self.refresh_trust().await {
            self.connections.disconnect(&former);
        }
        Ok(v1::DisconnectPeerResponse { was_connected })
    }

    /// Where the records cannot be read now, the task that follows them does it as soon as they can.
    pub(super) async fn refresh_trust(&self) -> Vec<ClusterName> {
        let refreshed = trust::refresh(&*self.store, &self.authorities).await;
        refreshed.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "trust in peers follows a little later");
            Vec::new()
        })
    }
}

pub(super) fn answer(joined: &Joined) -> v1::ConnectPeerResponse {
    let peer = &joined.peer.declaration;
    v1::ConnectPeerResponse {
        peer_name: peer.name.to_string(),
        peer_id: peer.id.get(),
        already_connected: joined.already,
    }
}

pub(super) fn cluster_name(name: &str) -> Result<ClusterName, Status> {
    ClusterName::new(name).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn redeem_code(error: &RedeemError) -> Code {
    match error {
        RedeemError::Token(_) | RedeemError::WrongKind { .. } => Code::InvalidArgument,
        RedeemError::WrongBearer { .. } | RedeemError::Expired { .. } | RedeemError::Refused { .. } => {
            Code::PermissionDenied
        }
        RedeemError::Unreachable { .. }
        | RedeemError::Timeout { .. }
        | RedeemError::Peers(_)
        | RedeemError::Store { .. } => Code::Unavailable,
        RedeemError::Conflict(_)
        | RedeemError::Tls { .. }
        | RedeemError::NoCluster { .. }
        | RedeemError::Declaration { .. }
        | RedeemError::OtherCa { .. }
        | RedeemError::OtherClaims { .. }
        | RedeemError::Trust(_) => Code::FailedPrecondition,
    }
}
