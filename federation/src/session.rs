//! A session to one peer: connects, follows, and connects again, for as long as the peer is joined.
//!
//! Owns the peer's mirror (one writer) and its board. It never decides whether the peer's facts may be used: that is
//! [`crate::liveness`]' judgement over the board.

use std::sync::Arc;
use std::time::Duration;

use certs::{LiveLeaf, TrustBundle};
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_types::ClusterName;
use tokio::sync::watch;

use crate::contract::Resource;
use crate::contract::validate::{Rejection, Rules};
use crate::liveness::Settings;
use crate::metrics::Metrics;
use crate::mirror::{self, Batch, Mirror};
use crate::peer::PeerRecord;
use crate::state::Phase;
use crate::trust;

pub mod board;
mod connection;
mod error;
mod link;
mod watches;

pub use board::{Board, ResourceBoard, Snapshot};
pub use error::Error;

/// A peer that comes back is found within a second; many peers do not knock at the same moment.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// What sessions share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) own: ClusterName,
    pub(crate) store: Arc<dyn Store>,
    /// The own cluster's leaf `remote-<own>`, taken anew for each connection.
    pub(crate) leaf: Arc<LiveLeaf>,
    pub(crate) liveness: Settings,
    pub(crate) metrics: Metrics,
}

pub(crate) struct Session {
    own: ClusterName,
    peer: PeerRecord,
    /// The CAs that are trusted for the peer, PEM, as its record says; they may change while it is joined.
    trust: watch::Receiver<String>,
    rules: Rules,
    leaf: Arc<LiveLeaf>,
    liveness: Settings,
    metrics: Metrics,
    board: Board,
    mirror: Mirror,
    /// The present connection has answered.
    is_connected: bool,
}

impl Session {
    pub(crate) async fn open(
        peer: PeerRecord,
        trust: watch::Receiver<String>,
        shared: Shared,
        board: Board,
    ) -> Result<Self, mirror::Error> {
        let mirror = Mirror::open(shared.store, peer.declaration.name.clone()).await?;
        let record = mirror.record();
        if record.is_resumable() {
            board.restored(record.withdrawn_since_unix_nanos, record.newest_revision());
        }
        let rules = peer.declaration.rules();
        let Shared { own, leaf, liveness, metrics, .. } = shared;
        Ok(Self { own, peer, trust, rules, leaf, liveness, metrics, board, mirror, is_connected: false })
    }

    /// Runs until stopped. Whatever a connection ends with, there is a next one.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut attempt = 0;
        while !shutdown.is_requested() {
            let Some(error) = shutdown.unless_requested(Box::pin(self.connect(attempt))).await else { return };
            attempt += 1;
            if let Error::Mirror(mirror::Error::PeerRemoved { .. }) | Error::Trust(trust::Error::PeerRemoved { .. }) =
                error
            {
                // The watch of peers stops this session in a moment.
                return shutdown.requested().await;
            }
            let reason = ErrorChain(&error).to_string();
            if self.is_connected {
                tracing::info!(peer = %self.peer.declaration.name, reason, "connection ended");
                backoff.reset();
            }
            self.is_connected = false;
            self.board.phase(Phase::Connecting, reason);
            if shutdown.unless_requested(self.pause(&error, &mut backoff)).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&mut self, attempt: usize) -> Error {
        let endpoints = &self.peer.declaration.etcd_endpoints;
        let Some(endpoint) = endpoints.get(attempt % endpoints.len().max(1)) else { return Error::NoEndpoint };
        let bundle = match TrustBundle::from_pem(&self.trust.borrow_and_update()) {
            Ok(bundle) => bundle,
            Err(error) => return Error::TrustBundle(error),
        };
        match link::Link::prepare(&self.peer, &bundle, endpoint, &self.leaf).await {
            Ok(link) => connection::Connection::new(self, link, bundle).run().await,
            Err(error) => error,
        }
    }

    async fn pause(&mut self, error: &Error, backoff: &mut Backoff) {
        if self.mirror.set_withdrawn(self.board.withdrawn_since())
            && let Err(error) = self.mirror.write(Batch::default()).await
        {
            tracing::warn!(peer = %self.peer.declaration.name, error = %ErrorChain(&error), "withdrawal not remembered");
        }
        if !matches!(error, Error::SourceChanged { .. }) {
            backoff.wait().await;
        }
    }

    fn reject(&self, resource: Resource, rejection: Rejection) {
        self.metrics.rejected(&rejection.peer, resource, rejection.rule);
        self.board.rejected(resource, rejection);
    }
}

#[cfg(test)]
mod tests;
