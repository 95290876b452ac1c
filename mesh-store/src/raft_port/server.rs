//! The receiving end: a service to be added to a tonic server.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Extensions, Request, Response, Status};

use super::{CALL, Encoded, MAX_MESSAGE_BYTES, SERVICE};
use crate::raft::Receiver;

type IsReplica = dyn Fn(&Extensions, u64) -> bool + Send + Sync;

#[derive(Clone)]
pub struct RaftService {
    call: Call,
}

#[derive(Clone)]
struct Call {
    receiver: Receiver,
    is_replica: Arc<IsReplica>,
}

impl RaftService {
    /// `is_replica` says, from what the TLS layer put into a request's extensions, whether the caller may speak as the
    /// replica of that id. It is asked for every call, before anything is done.
    pub fn new(receiver: Receiver, is_replica: impl Fn(&Extensions, u64) -> bool + Send + Sync + 'static) -> Self {
        Self { call: Call { receiver, is_replica: Arc::new(is_replica) } }
    }
}

impl NamedService for RaftService {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for RaftService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != CALL {
            let unknown = Status::unimplemented("replicas call one method only");
            return Box::pin(async move { Ok(unknown.into_http()) });
        }
        let call = self.call.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Encoded)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            Ok(grpc.unary(call, request).await)
        })
    }
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let Self { receiver, is_replica } = self.clone();
        Box::pin(async move {
            let (_, extensions, message) = request.into_parts();
            let answer = receiver.receive(&message, |id| is_replica(&extensions, id)).await;
            Ok(Response::new(answer))
        })
    }
}
