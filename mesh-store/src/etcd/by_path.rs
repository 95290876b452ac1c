//! Serving a gRPC method whose server half the etcd-client crate does not export: a service matches the path by itself
//! and answers each method through [`unary`] or [`streaming`].
//!
//! It owns the step from an HTTP request to a typed one. It must never know a service.

use futures::stream::BoxStream;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

pub(super) type HttpRequest = http::Request<Body>;
pub(super) type HttpResponse = http::Response<Body>;

/// The method's name: what follows the service's in `/package.Service/Method`.
pub(super) fn method(request: &HttpRequest) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}

pub(super) async fn unary<Q, A, F>(
    request: HttpRequest,
    limit: usize,
    answer: impl FnMut(Request<Q>) -> F,
) -> HttpResponse
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<Response<A>, Status>>,
{
    grpc::<Q, A>(limit).unary(service_fn(answer), request).await
}

pub(super) async fn streaming<Q, A, F>(
    request: HttpRequest,
    limit: usize,
    answer: impl FnMut(Request<Q>) -> F,
) -> HttpResponse
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<Response<BoxStream<'static, Result<A, Status>>>, Status>>,
{
    grpc::<Q, A>(limit).server_streaming(service_fn(answer), request).await
}

fn grpc<Q: Message + Default + 'static, A: Message + Default + 'static>(limit: usize) -> Grpc<ProstCodec<A, Q>> {
    Grpc::new(ProstCodec::default()).apply_max_message_size_config(Some(limit), Some(usize::MAX))
}

/// Makes `$service(Arc<Served>)` the gRPC service `$name`, whose `answer` method takes every request.
macro_rules! serve_by_path {
    ($service:ident, $name:literal) => {
        impl tonic::server::NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl tower::Service<crate::etcd::by_path::HttpRequest> for $service {
            type Response = crate::etcd::by_path::HttpResponse;
            type Error = std::convert::Infallible;
            type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

            fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: crate::etcd::by_path::HttpRequest) -> Self::Future {
                let service = self.clone();
                Box::pin(async move { Ok(service.answer(request).await) })
            }
        }
    };
}
pub(super) use serve_by_path;
