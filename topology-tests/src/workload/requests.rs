//! HTTP/1.1 and gRPC on one port: `GET` says who answers, `POST /echo` gives the body back, any gRPC method echoes its
//! messages, and the health service says SERVING.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpStream;

use super::Identity;
use crate::traffic::{Answer, grpc};

const METHODS: [&[u8]; 8] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"PRI * HT"];

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Whether the first bytes start a request of HTTP/1 or the preface of HTTP/2.
pub(super) fn looks_like_http(first: &[u8]) -> bool {
    let agrees = |method: &&[u8]| method.iter().zip(first).all(|(a, b)| a == b);
    !first.is_empty() && METHODS.iter().any(agrees)
}

pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    identity: &Identity,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let answer = identity.answer(peer);
    let service = hyper::service::service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(respond(request, &answer).await) }
    });
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

async fn respond(request: Request<Incoming>, answer: &Answer) -> Response<Body> {
    let is_grpc =
        request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let mut response = if is_grpc {
        grpc_response(request)
    } else if request.method() == Method::POST && request.uri().path() == "/echo" {
        echo(request).await
    } else {
        identify(&request, answer)
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-isthmus-cluster", &answer.cluster),
        ("x-isthmus-node", &answer.node),
        ("x-isthmus-pod", &answer.pod),
        ("x-isthmus-peer", &answer.peer),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn identify(request: &Request<Incoming>, answer: &Answer) -> Response<Body> {
    let text = json!({
        "cluster": answer.cluster, "node": answer.node, "pod": answer.pod, "peer": answer.peer,
        "path": request.uri().path(),
    });
    let mut response = Response::new(whole((text.to_string() + "\n").into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads the whole body before it answers: a client may write all before it reads.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    match request.into_body().collect().await {
        Ok(body) => Response::new(whole(body.to_bytes())),
        Err(_cut_off) => {
            let mut response = Response::new(whole(Bytes::new()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

/// Health is answered; every other method echoes its messages, unary and streamed alike, as they come.
fn grpc_response(request: Request<Incoming>) -> Response<Body> {
    let mut ok = HeaderMap::new();
    ok.insert("grpc-status", HeaderValue::from_static("0"));
    let end = futures::stream::iter([Ok(Frame::trailers(ok))]);
    let body = if request.uri().path() == grpc::HEALTH {
        let message = futures::stream::iter([Ok(Frame::data(grpc::frame(&grpc::SERVING)))]);
        StreamBody::new(message.chain(end)).boxed_unsync()
    } else {
        StreamBody::new(BodyStream::new(request.into_body()).chain(end)).boxed_unsync()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_raw_bytes_by_their_first_word() {
        for http in [&b"GET / HT"[..], b"POST /ec", b"PRI * HT", b"G"] {
            assert!(looks_like_http(http), "{http:?}");
        }
        for raw in [&b""[..], b"ping 1\n", b"*1\r\n$4\r\n", b"GETX"] {
            assert!(!looks_like_http(raw), "{raw:?}");
        }
    }
}
