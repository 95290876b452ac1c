//! The agent service as it stands on the port. `Subscribe` sends bytes that were encoded once for all agents; the generated
//! server would encode each message anew for each of them. Every other call goes to the generated server.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use mesh_proto::v1;
use mesh_proto::v1::agent_server::{AgentServer, SERVICE_NAME};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};

use super::service::{AgentApi, EncodedStream};

const SUBSCRIBE: &str = "/isthmus.v1.Agent/Subscribe";

#[derive(Clone)]
pub struct AgentService {
    api: Arc<AgentApi>,
    rest: AgentServer<AgentApi>,
}

impl AgentService {
    pub fn new(api: AgentApi) -> Self {
        let api = Arc::new(api);
        Self { rest: AgentServer::from_arc(Arc::clone(&api)), api }
    }
}

impl NamedService for AgentService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for AgentService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.rest, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != SUBSCRIBE {
            return self.rest.call(request);
        }
        let subscribe = Subscribe(Arc::clone(&self.api));
        Box::pin(async move { Ok(Grpc::new(Encoded).server_streaming(subscribe, request).await) })
    }
}

struct Subscribe(Arc<AgentApi>);

impl ServerStreamingService<v1::SubscribeRequest> for Subscribe {
    type Response = Bytes;
    type ResponseStream = EncodedStream;
    type Future = BoxFuture<Response<EncodedStream>, Status>;

    fn call(&mut self, request: Request<v1::SubscribeRequest>) -> Self::Future {
        let api = Arc::clone(&self.0);
        Box::pin(async move {
            let (_, extensions, request) = request.into_parts();
            Ok(Response::new(api.frames(&extensions, request).await?))
        })
    }
}

/// Requests are decoded, responses are bytes already.
#[derive(Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = v1::SubscribeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = v1::SubscribeRequest;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let request = v1::SubscribeRequest::decode(bytes);
        request.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
