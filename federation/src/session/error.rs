//! Why a connection to a peer ended. The session always tries again; the reason is what status shows.

use std::error::Error as _;
use std::time::Duration;

use crate::contract::validate::Rejection;
use crate::mirror::{self, Watched};
use crate::peer::AccessError;
use crate::trust;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the peer's record holds no endpoint: connect again with a token that does")]
    NoEndpoint,
    #[error("the peer's trust bundle cannot be used: connect again")]
    TrustBundle(#[source] certs::bundle::Error),
    #[error("this replica has no way to call the Cilium cluster")]
    Access(#[from] AccessError),
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect { endpoint: String, reason: String },
    #[error("{endpoint} did not answer within {} ms when asked for {what}", limit.as_millis())]
    Timeout { endpoint: String, what: Watched, limit: Duration },
    #[error("cannot read {what}: {reason}")]
    Request { what: Watched, reason: String },
    #[error("cannot read {what}: permission denied")]
    Denied { what: Watched },
    #[error("the watch of {watched} was refused: {reason}")]
    Refused { watched: Watched, reason: String },
    #[error("the connection ended: {reason}")]
    Ended { reason: String },
    #[error("no heartbeat for {} s on a standing connection", silence.as_secs())]
    HeartbeatLost { silence: Duration },
    #[error("its store is another one than before ({known:016x}, now {found:016x}): reading everything again")]
    SourceChanged { known: u64, found: u64 },
    #[error("it answered without a header: is this an etcd API?")]
    NoHeader,
    #[error("its configuration is refused")]
    Config(#[source] Rejection),
    #[error("a CA that was trusted for it is so no more: connecting by those that are")]
    TrustChanged,
    #[error("the mirror cannot be written")]
    Mirror(#[from] mirror::Error),
    #[error("its CAs cannot be taken over")]
    Trust(#[source] trust::Error),
}

impl Error {
    /// The own side is at fault, not the peer.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Mirror(_) | Self::Trust(_))
    }
}

/// The whole cause of a client's error in one line: its `Display` stops at "transport error".
pub(super) fn reason(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::TransportError(error) => chain(error),
        etcd_client::Error::GRpcStatus(status) => status.source().map_or_else(
            || format!("{}: {}", status.code(), status.message()),
            |source| format!("{}: {}", status.message(), chain(source)),
        ),
        other => other.to_string(),
    }
}

/// Each cause once: HTTP libraries repeat their source's text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

pub(super) fn is_denied(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.code() == tonic::Code::PermissionDenied)
}

pub(super) fn is_compacted(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.code() == tonic::Code::OutOfRange)
}
