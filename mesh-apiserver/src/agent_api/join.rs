//! The two calls that need no client certificate: a token is what the caller shows instead.

use std::sync::Arc;

use certs::csr;
use certs::token::Bearer;
use federation::join::tokens::{self, Redemption};
use federation::join::{AcceptError, Tokens, accept_join};
use mesh_proto::v1;
use mesh_proto::v1::join_server::Join;
use mesh_runtime::{ErrorChain, clock};
use mesh_store::Store;
use mesh_types::{ClusterName, NodeName};
use tonic::{Code, Request, Response, Status};

use super::service::sign;
use crate::credentials::Credentials;
use crate::kubernetes::{AgentAccount, Refusal};
use crate::own;
use crate::trust;

pub struct JoinApi {
    pub cluster: ClusterName,
    pub store: Arc<dyn Store>,
    pub credentials: Arc<Credentials>,
    /// `None`: agents enrol by tokens of this cluster alone.
    pub account: Option<AgentAccount>,
}

#[tonic::async_trait]
impl Join for JoinApi {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let own = own::declaration(&*self.store).await?;
        let answer = accept_join(&self.store, &own, request.into_inner(), clock::unix_nanos()).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(error = %ErrorChain(&error), "join refused");
            Status::new(accept_code(&error), ErrorChain(&error).to_string())
        })?;
        // The peer's first call follows at once: do not make it wait for the watch of peer records.
        if let Err(error) = trust::refresh(&*self.store, &self.credentials.authorities).await {
            tracing::warn!(error = %ErrorChain(&error), "trust in the new peer follows a little later");
        }
        Ok(Response::new(answer))
    }

    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        if request.node.is_empty() {
            return Err(Status::invalid_argument("the request names no node"));
        }
        let node = NodeName(request.node.clone());
        if !request.service_account_token.is_empty() {
            return self.enroll_pod(request, node).await;
        }
        // Signed before the token is used up, so that a bad request can be corrected; handed out only after.
        let certificate_pem = sign(&self.credentials.ca.get(), &request.csr_pem, &node)?;
        let redeemer = csr::key_hash(&request.csr_pem)
            .map_err(|error| Status::invalid_argument(ErrorChain(&error).to_string()))?;
        let redemption = Redemption {
            text: &request.token,
            issuer: self.credentials.ca.get().uuid(),
            caller: Bearer::Node(node.clone()),
            redeemer: &redeemer,
            now_unix_seconds: clock::unix_seconds(),
            also: Vec::new(),
        };
        let redeemed = Tokens::new(Arc::clone(&self.store)).redeem(redemption).await.map_err(|error| {
            tracing::warn!(%node, error = %ErrorChain(&error), "enrolment refused");
            Status::new(token_code(&error), ErrorChain(&error).to_string())
        })?;
        tracing::info!(%node, ?redeemed, "node enrolled");
        Ok(self.enrolled(certificate_pem))
    }
}

impl JoinApi {
    /// By the token of the ServiceAccount of the agent's pod. It is not used up: the same pod may lose its key and enrol anew.
    async fn enroll_pod(
        &self,
        request: v1::EnrollRequest,
        node: NodeName,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        if !request.token.is_empty() {
            return Err(Status::invalid_argument("the request shows two tokens: send one of them"));
        }
        let account = self.account.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "this server takes no ServiceAccount tokens: start it with --source kubernetes and \
                 --agent-service-account NAMESPACE/NAME, or enrol by a token of `meshctl token create --node`",
            )
        })?;
        let checked = account.check(&request.service_account_token, &node).await;
        checked.map_err(|refused| {
            let text = ErrorChain(&refused).to_string();
            tracing::warn!(%node, error = text, "enrolment refused");
            Status::new(pod_code(&refused), text)
        })?;
        let certificate_pem = sign(&self.credentials.ca.get(), &request.csr_pem, &node)?;
        tracing::info!(%node, "node enrolled by its agent's ServiceAccount");
        Ok(self.enrolled(certificate_pem))
    }

    fn enrolled(&self, certificate_pem: String) -> Response<v1::EnrollResponse> {
        Response::new(v1::EnrollResponse {
            certificate_pem,
            trust_bundle_pem: self.credentials.authorities.own_bundle().pem(),
            cluster: self.cluster.to_string(),
        })
    }
}

/// Unauthenticated is what another token, or the same a little later, may mend; denied is what a person has to.
fn pod_code(refused: &Refusal) -> Code {
    match refused {
        Refusal::Shape | Refusal::NotAccepted { .. } | Refusal::Audience => Code::Unauthenticated,
        Refusal::Account { .. } | Refusal::NoPod { .. } | Refusal::NoNode { .. } | Refusal::OtherNode { .. } => {
            Code::PermissionDenied
        }
        Refusal::NoAnswer(_) => Code::Unavailable,
    }
}

fn accept_code(error: &AcceptError) -> Code {
    match error {
        AcceptError::NoCluster | AcceptError::Declaration(_) | AcceptError::TrustBundle(_) => Code::InvalidArgument,
        AcceptError::Conflict(_) => Code::FailedPrecondition,
        AcceptError::Token(error) => token_code(error),
        AcceptError::Peers(_) => Code::Unavailable,
        AcceptError::KnownTrustBundle { .. } => Code::Internal,
    }
}

pub(crate) fn token_code(error: &tokens::Error) -> Code {
    match error {
        tokens::Error::Text(_) | tokens::Error::WrongKind { .. } => Code::InvalidArgument,
        tokens::Error::Store { .. } | tokens::Error::Contended { .. } => Code::Unavailable,
        tokens::Error::Record { .. } => Code::Internal,
        tokens::Error::WrongIssuer { .. }
        | tokens::Error::Unknown { .. }
        | tokens::Error::Tampered { .. }
        | tokens::Error::Expired { .. }
        | tokens::Error::Revoked { .. }
        | tokens::Error::WrongBearer { .. }
        | tokens::Error::Used { .. } => Code::PermissionDenied,
    }
}
