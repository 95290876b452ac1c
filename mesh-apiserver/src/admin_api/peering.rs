//! Tokens, connect and disconnect.

use std::time::Duration;

use certs::Token;
use certs::token::{Bearer, Claims};
use federation::Declaration;
use federation::join::tokens::Tokens;
use federation::join::{Joined, RedeemError};
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, clock};
use mesh_types::{ClusterId, ClusterName, NodeName};
use tonic::{Code, Status};

use super::AdminApi;
use super::cilium::code as cilium_code;
use crate::agent_api::join::token_code;
use crate::membership::{JoinError, PartError};
use crate::own;

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
        let joined = self.membership.redeem(token).await;
        joined.map(|joined| answer(&joined)).map_err(|error| refusal(&error))
    }

    pub(super) async fn disconnect(&self, name: &str) -> Result<v1::DisconnectPeerResponse, Status> {
        let name = cluster_name(name)?;
        let was_connected = self.membership.part(&name, None).await.map_err(|error| {
            let code =
                if matches!(error, PartError::Held { .. }) { Code::FailedPrecondition } else { Code::Unavailable };
            Status::new(code, ErrorChain(&error).to_string())
        })?;
        Ok(v1::DisconnectPeerResponse { was_connected })
    }
}

/// For who asked to join.
pub(super) fn refusal(error: &JoinError) -> Status {
    let code = match error {
        JoinError::Redeem(error) => redeem_code(error),
        JoinError::Cilium(error) => cilium_code(error),
        JoinError::Declared(_) => Code::FailedPrecondition,
        JoinError::Own(_) => Code::Unavailable,
    };
    Status::new(code, ErrorChain(error).to_string())
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
