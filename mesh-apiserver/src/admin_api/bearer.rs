//! The admin API on the mesh port for callers who show a bearer token: judged by what their call takes, before the call is
//! read.
//!
//! Must never let a call through whose token was not granted, whatever certificate the connection has: who shows a token is
//! judged by it alone.

use std::convert::Infallible;
use std::task::{Context, Poll};

use mesh_proto::v1::{admin_server, store_admin_server};
use mesh_runtime::ErrorChain;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use zeroize::Zeroizing;

use crate::callers::Delegated;
use crate::kubernetes::{Delegates, Denied, Right};

/// Calls that change nothing, and show nothing that a peering object's reader may not see: not `SaveSnapshot`, which shows
/// all that is stored, and not `Preflight`, which calls addresses that the caller names.
const READS: [&str; 16] = [
    "GetVersion",
    "GetStatus",
    "GetDeclaration",
    "ListTokens",
    "ListPeers",
    "ListServices",
    "ListEndpoints",
    "ListNodes",
    "ListIdentities",
    "ListAgents",
    "AwaitSights",
    "Troubleshoot",
    "GetCertificates",
    "GetHeld",
    "GetStore",
    "CheckStore",
];

/// A service behind its judge.
#[derive(Clone)]
pub struct Bearer<S> {
    service: S,
    /// `None`: nobody is let in by a token.
    delegates: Option<Delegates>,
}

impl<S> Bearer<S> {
    pub fn new(service: S, delegates: Option<Delegates>) -> Self {
        Self { service, delegates }
    }
}

impl<S: NamedService> NamedService for Bearer<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Bearer<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if !request.headers().contains_key(http::header::AUTHORIZATION) {
            return Box::pin(self.service.call(request));
        }
        // The one that was found ready answers; its copy is for the next call.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        let delegates = self.delegates.clone();
        let shown = token(request.headers());
        request.headers_mut().remove(http::header::AUTHORIZATION);
        let call = request.uri().path().to_owned();
        Box::pin(async move {
            match judge(delegates.as_ref(), shown, &call).await {
                Ok(delegated) => {
                    request.extensions_mut().insert(delegated);
                    service.call(request).await
                }
                Err(refusal) => Ok(refusal.into_http()),
            }
        })
    }
}

async fn judge(
    delegates: Option<&Delegates>,
    shown: Result<Zeroizing<String>, Status>,
    call: &str,
) -> Result<Delegated, Status> {
    let delegates = delegates.ok_or_else(|| {
        Status::unauthenticated(
            "this server takes no bearer token, since it asks no Kubernetes (--source kubernetes): use the certificate \
             admin-<cluster>, or root on the server's Unix socket",
        )
    })?;
    let right = right(call);
    match delegates.admit(&shown?, right).await {
        Ok(user) => {
            // Who looks may look often.
            if right == Right::Change {
                tracing::info!(user = ?user.0, call, "a change by a user of Kubernetes");
            } else {
                tracing::debug!(user = ?user.0, call, "a question by a user of Kubernetes");
            }
            Ok(Delegated { user: user.0 })
        }
        Err(denied) => {
            tracing::warn!(call, error = %ErrorChain(&denied), "a call with a bearer token is refused");
            Err(refusal(&denied))
        }
    }
}

fn token(headers: &http::HeaderMap) -> Result<Zeroizing<String>, Status> {
    let wrong = || Status::unauthenticated("the metadata `authorization` is not one `Bearer TOKEN`");
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(wrong()) };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(wrong)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Zeroizing::new(token.trim().to_owned())) } else { Err(wrong()) }
}

/// What is not known to change nothing changes something.
fn right(path: &str) -> Right {
    let is_read = path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(service, method)| {
        [admin_server::SERVICE_NAME, store_admin_server::SERVICE_NAME].contains(&service) && READS.contains(&method)
    });
    if is_read { Right::Read } else { Right::Change }
}

fn refusal(denied: &Denied) -> Status {
    let text = ErrorChain(denied).to_string();
    match denied {
        Denied::Shape | Denied::NotAccepted { .. } => Status::unauthenticated(text),
        Denied::NotAllowed { .. } => Status::permission_denied(text),
        Denied::NoAnswer(_) => Status::unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_is_said_to_read_exists_and_every_other_one_takes_the_right_to_change() {
        let protos = [
            ("isthmus.v1.Admin", include_str!("../../../mesh-proto/proto/isthmus/v1/admin.proto")),
            ("isthmus.v1.StoreAdmin", include_str!("../../../mesh-proto/proto/isthmus/v1/store.proto")),
        ];
        let mut reads = Vec::new();
        let mut changes = Vec::new();
        for (service, text) in protos {
            for line in text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")) {
                let method = line.split('(').next().expect("a name").trim();
                match right(&format!("/{service}/{method}")) {
                    Right::Read => reads.push(method),
                    Right::Change => changes.push(method),
                }
            }
        }
        let (mut known, mut found) = (READS.to_vec(), reads.clone());
        known.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, known);
        for change in
            ["ConnectPeer", "DisconnectPeer", "CreateJoinToken", "RotateCa", "SaveSnapshot", "RemoveStoreMember"]
        {
            assert!(changes.contains(&change), "{change} in {changes:?}");
        }
        for odd in ["", "/", "GetStatus", "/isthmus.v1.Other/GetStatus", "/isthmus.v1.Admin/GetStatus/x"] {
            assert_eq!(right(odd), Right::Change, "{odd}");
        }
    }

    #[test]
    fn a_token_is_one_value_of_the_bearer_scheme() {
        let headers = |values: &[&str]| {
            let mut headers = http::HeaderMap::new();
            for value in values {
                headers.append(http::header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        for good in ["Bearer abc", "bearer  abc "] {
            assert_eq!(*token(&headers(&[good])).unwrap(), "abc");
        }
        for bad in [&["Basic abc"][..], &["abc"], &["Bearerabc"], &["Bearer a", "Bearer b"]] {
            let refused = token(&headers(bad)).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated);
            assert!(!refused.message().contains("abc"), "{refused}");
        }
    }
}
