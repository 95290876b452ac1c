//! gRPC without generated code: frames of one length-prefixed message (gRPC over HTTP/2, "Length-Prefixed-Message") on a
//! plain HTTP/2 connection. Enough for an echo and for `grpc.health.v1.Health/Check`.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Answer, Error, connect};

pub const ECHO: &str = "/isthmus.lab.v1.Echo/Unary";
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse { status: SERVING }`: field 1, varint 1.
pub const SERVING: [u8; 2] = [0x08, 0x01];

/// Sends one message to the echo service and compares what comes back.
pub async fn echo(target: SocketAddr, message: &[u8]) -> Result<Answer, Error> {
    let (answer, echoed) = call(target, ECHO, message).await?;
    if echoed == message { Ok(answer) } else { Err(Error::Mismatch) }
}

/// Asks the health service.
pub async fn is_serving(target: SocketAddr, service: &str) -> Result<bool, Error> {
    let mut request = BytesMut::new();
    if let Ok(length) = u8::try_from(service.len())
        && length > 0
    {
        // HealthCheckRequest { service }: field 1, length-delimited.
        request.put_slice(&[0x0a, length]);
        request.put_slice(service.as_bytes());
    }
    let (_, response) = call(target, HEALTH, &request).await?;
    Ok(response == SERVING[..])
}

/// One message as a frame: not compressed, four bytes of length, then the message.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

async fn call(target: SocketAddr, path: &str, message: &[u8]) -> Result<(Answer, Bytes), Error> {
    let protocol = |error: hyper::Error| Error::Protocol(error.to_string());
    let stream = connect(target).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(protocol)?;
    let request = Request::post(format!("http://{target}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(frame(message)))
        .map_err(|error| Error::Protocol(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(protocol)?;
        let answer = answer_of(&response);
        let collected = response.into_body().collect().await.map_err(protocol)?;
        let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        if status.as_ref().is_none_or(|status| status != "0") {
            return Err(Error::Protocol(format!("grpc-status {status:?}")));
        }
        let body = collected.to_bytes();
        if body.len() < 5 {
            return Err(Error::Protocol("no message".into()));
        }
        Ok((answer, body.slice(5..)))
    };
    tokio::select! {
        result = exchange => result,
        ended = connection => Err(ended.err().map_or(Error::Closed, protocol)),
    }
}

fn answer_of<T>(response: &Response<T>) -> Answer {
    let header = |name: &str| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Answer {
        cluster: header("x-isthmus-cluster"),
        node: header("x-isthmus-node"),
        pod: header("x-isthmus-pod"),
        peer: header("x-isthmus-peer"),
    }
}
