//! The lab's clients: one request each over HTTP, gRPC, raw TCP or UDP, never retried. Used by probes, by the load generator
//! and by reachability checks. An answer always says who gave it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod grpc;
pub mod http;
pub mod raw;
pub mod udp;

/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Who answered, and the client's address as it was seen there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub cluster: String,
    pub node: String,
    pub pod: String,
    pub peer: String,
}

/// Why a request failed, in words that records and tables group by.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connect timeout")]
    ConnectTimeout,
    #[error("connect: {}", .0.kind())]
    Connect(#[source] std::io::Error),
    #[error("timeout")]
    Timeout,
    #[error("io: {}", .0.kind())]
    Io(#[from] std::io::Error),
    #[error("closed early")]
    Closed,
    #[error("protocol: {0}")]
    Protocol(String),
    #[error("the echo differs from what was sent")]
    Mismatch,
}

/// Opens a TCP connection within the connect timeout.
pub async fn connect(target: SocketAddr) -> Result<tokio::net::TcpStream, Error> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(target))
        .await
        .map_err(|_elapsed| Error::ConnectTimeout)?
        .map_err(Error::Connect)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
