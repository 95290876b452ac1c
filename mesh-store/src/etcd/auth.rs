//! `etcdserverpb.Auth`: says that password authentication is off, and refuses to turn it on.
//!
//! Who may do what follows from the client's certificate (see [`super::gate`]); users, passwords and roles in the store
//! would be a second truth beside it. etcd-client does not export all messages of this service, so it is served by path.

use std::sync::Arc;

use etcd_client::proto::PbResponseHeader;
use futures::future::ready;
use tonic::{Request, Response, Status};

use super::Shared;
use super::by_path::{HttpRequest, HttpResponse, method, serve_by_path, unary};

#[derive(Clone)]
pub(super) struct Auth(pub(super) Arc<Shared>);

serve_by_path!(Auth, "etcdserverpb.Auth");

const BY_CERTIFICATE: &str = "etcdserver: authentication is by client certificate and roles follow from it: users, \
                              passwords and roles cannot be changed through this API";

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct AuthStatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthStatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<PbResponseHeader>,
    #[prost(bool, tag = "2")]
    enabled: bool,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

/// The auth revision of an etcd on which nothing was ever set.
const NEVER_CHANGED: u64 = 1;

impl Auth {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        match method(&request) {
            "AuthStatus" => {
                let limit = self.0.options.max_request_bytes;
                unary(request, limit, |request| ready(self.status(&request))).await
            }
            // What etcd says to a password while authentication is off.
            "Authenticate" => Status::failed_precondition("etcdserver: authentication is not enabled").into_http(),
            _ => Status::failed_precondition(BY_CERTIFICATE).into_http(),
        }
    }

    fn status(&self, request: &Request<AuthStatusRequest>) -> Result<Response<AuthStatusResponse>, Status> {
        let shared = &self.0;
        shared.gate.admit(request.extensions(), &shared.metrics)?;
        let header = Some(shared.header_now());
        Ok(Response::new(AuthStatusResponse { header, enabled: false, auth_revision: NEVER_CHANGED }))
    }
}
