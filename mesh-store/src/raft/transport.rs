//! The way to other replicas, as seen from here: a message goes out, an answer comes back, or an error.
//!
//! A transport carries bytes between processes and knows nothing of what they say, so that the same replica runs over gRPC
//! with mutual TLS, and over a simulated network. It may lose, delay, repeat and reorder calls; it must never deliver one
//! that was changed, nor the call of anybody but a replica.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::backend::Member;

/// No larger message is ever sent.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

pub trait Transport: Send + Sync + 'static {
    /// Delivers a message to a replica and returns its answer. The caller gives up after `timeout` and drops the future.
    fn call(&self, to: &Member, message: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Bytes, TransportError>>;
}

/// Why there is no answer. Whether the message arrived is not known, except where it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody is there, so the message was not delivered.
    #[error("replica {id} cannot be reached: {reason}")]
    Unreachable { id: u64, reason: String },
    #[error("the call to replica {id} broke off: {reason}")]
    Broken { id: u64, reason: String },
}

/// The transport of a replica that has no way to others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn call(&self, to: &Member, _: Bytes, _: Duration) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        let id = to.id;
        async move {
            Err(TransportError::Unreachable { id, reason: "this replica was started without a transport".to_owned() })
        }
        .boxed()
    }
}
