//! The calling end: connections to the other replicas.
//!
//! Each has two, so that a vote or a heartbeat never waits behind a snapshot's megabytes on the same TCP stream.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{ConnectError, Request, Status};

use super::{CALL, Encoded, MAX_MESSAGE_BYTES};
use crate::backend::Member;
use crate::raft::{Transport, TransportError};

/// A larger message takes the second connection.
const SMALL: usize = 64 * 1024;

type Connect = dyn Fn(&Member) -> Result<Channel, String> + Send + Sync;

pub struct GrpcTransport {
    connect: Box<Connect>,
    connections: Mutex<HashMap<u64, Connections>>,
}

struct Connections {
    peer_urls: Vec<String>,
    small: Channel,
    large: Channel,
}

impl GrpcTransport {
    /// `connect` makes a channel to a member's `peer_urls` that connects when it is used, again and again. It should give
    /// up a connection soon: a second to connect, a ping each second, two for its answer.
    pub fn new(connect: impl Fn(&Member) -> Result<Channel, String> + Send + Sync + 'static) -> Self {
        Self { connect: Box::new(connect), connections: Mutex::default() }
    }

    /// Lets go of every connection: calls under way end on theirs, further ones connect anew.
    pub fn reconnect(&self) {
        self.connections.lock().clear();
    }

    fn channel(&self, to: &Member, bytes: usize) -> Result<Channel, String> {
        let mut connections = self.connections.lock();
        if connections.get(&to.id).is_none_or(|known| known.peer_urls != to.peer_urls) {
            let (small, large) = ((self.connect)(to)?, (self.connect)(to)?);
            connections.insert(to.id, Connections { peer_urls: to.peer_urls.clone(), small, large });
        }
        let known = &connections[&to.id];
        Ok(if bytes <= SMALL { known.small.clone() } else { known.large.clone() })
    }
}

impl Transport for GrpcTransport {
    fn call(&self, to: &Member, message: Bytes, _: Duration) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        let id = to.id;
        let channel = self.channel(to, message.len());
        async move {
            let channel = channel.map_err(|reason| TransportError::Unreachable { id, reason })?;
            let mut grpc = Grpc::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            let not_ready = |error: tonic::transport::Error| failed(id, &Status::from_error(Box::new(error)));
            grpc.ready().await.map_err(not_ready)?;
            let path = PathAndQuery::from_static(CALL);
            let called = grpc.unary(Request::new(message), path, Encoded).await;
            called.map(tonic::Response::into_inner).map_err(|status| failed(id, &status))
        }
        .boxed()
    }
}

fn failed(id: u64, status: &Status) -> TransportError {
    let mut reason = status.message().to_owned();
    let mut unconnected = false;
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        unconnected |= error.is::<ConnectError>();
        reason = error.to_string();
        source = error.source();
    }
    if unconnected { TransportError::Unreachable { id, reason } } else { TransportError::Broken { id, reason } }
}
