//! A session to one peer: connects, follows, and connects again, for as long as the peer is joined.
//!
//! Owns the peer's mirror (one writer) and its board. It never decides whether the peer's facts may be used: that is
//! [`crate::liveness`]' judgement over the board.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::{Leaf, LiveLeaf, TrustBundle};
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::mvcc::KeyRange;
use mesh_types::ClusterName;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::contract::validate::{Rejection, Rules};
use crate::contract::{Resource, keys};
use crate::imports::{self, Imports};
use crate::metrics::Metrics;
use crate::mirror::{self, Batch, Mirror, Watched};
use crate::peer::{CiliumAccess, PeerRecord};
use crate::service::Tuning;
use crate::state::Phase;
use crate::trust;

pub mod board;
mod connection;
mod error;
mod link;
mod pace;
pub mod walk;
mod watches;

pub use board::{Board, ResourceBoard, Snapshot};
pub use error::Error;
use pace::Pace;

/// A peer that comes back is found within a second; many peers do not knock at the same moment.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Peers whose listings are written to the local store at a time. All peers of a mesh list at once when a cluster starts: the
/// store's replicas must find time between their transactions for each other, and for the changes of those who are live.
/// Only the writing has to take turns, which no peer can draw out.
pub(crate) const WRITING_LISTINGS: usize = 8;

/// What sessions share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) own: ClusterName,
    pub(crate) store: Arc<dyn Store>,
    /// The own cluster's leaf `remote-<own>`, taken anew for each connection.
    pub(crate) leaf: Arc<LiveLeaf>,
    pub(crate) tuning: watch::Receiver<Tuning>,
    pub(crate) metrics: Metrics,
    pub(crate) imports: imports::Feed,
    /// Whose listing is written now: see [`WRITING_LISTINGS`].
    pub(crate) writing: Arc<Semaphore>,
}

pub(crate) struct Session {
    own: ClusterName,
    peer: PeerRecord,
    /// The CAs that are trusted for the peer, PEM, as its record says; they may change while it is joined.
    trust: watch::Receiver<String>,
    rules: Rules,
    imports: Imports,
    leaf: Arc<LiveLeaf>,
    tuning: watch::Receiver<Tuning>,
    metrics: Metrics,
    writing: Arc<Semaphore>,
    board: Board,
    mirror: Mirror,
    /// Over all connections: a peer that breaks them gets no more than one that does not.
    pace: Pace,
    /// The present connection has answered.
    is_connected: bool,
    /// The peer's newest configuration was refused. It is read anew: history would tell of the refused one again, although
    /// there may be a good one by now.
    is_config_refused: bool,
}

impl Session {
    pub(crate) async fn open(
        peer: PeerRecord,
        trust: watch::Receiver<String>,
        shared: Shared,
        board: Board,
    ) -> Result<Self, mirror::Error> {
        let rules = peer.declaration.rules();
        let mirror = Mirror::open(shared.store, peer.declaration.name.clone(), &rules).await?;
        let record = mirror.record();
        if record.is_resumable() {
            let synced = Resource::ALL.into_iter().filter(|resource| record.is_synced(*resource));
            board.restored(record.newest_revision(), synced);
        }
        let Shared { own, leaf, tuning, metrics, imports, writing, .. } = shared;
        let imports = Imports::open(peer.declaration.name.clone(), imports).await;
        Ok(Self {
            own,
            peer,
            trust,
            rules,
            imports,
            leaf,
            tuning,
            metrics,
            writing,
            board,
            mirror,
            pace: Pace::new(Instant::now()),
            is_connected: false,
            is_config_refused: false,
        })
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
            if matches!(error, Error::SourceChanged { .. }) {
                continue;
            }
            if shutdown.unless_requested(backoff.wait()).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&mut self, attempt: usize) -> Error {
        // Whether the peer can be reached or not: what is not taken any more goes now.
        self.imports.renew();
        if let Err(error) = self.mirror.settle().await {
            return error.into();
        }
        if let Err(error) = self.withdraw_not_imported().await {
            return error.into();
        }
        let endpoints = self.peer.declaration.etcd_endpoints.len().max(1);
        let (bundle, leaf) = match self.trust() {
            Ok(trust) => trust,
            Err(error) => return error,
        };
        match link::Link::prepare(&self.peer, attempt % endpoints, (&bundle, &leaf)).await {
            Ok(link) => connection::Connection::new(self, link, bundle).run().await,
            Err(error) => error,
        }
    }

    /// By what the peer is verified, and as whom it is called.
    fn trust(&mut self) -> Result<(TrustBundle, Leaf), Error> {
        if let Some(access) = &self.peer.cilium {
            return Ok((access.bundle()?, access.leaf()?));
        }
        let bundle = TrustBundle::from_pem(&self.trust.borrow_and_update()).map_err(Error::TrustBundle)?;
        Ok((bundle, self.leaf.get()))
    }

    /// Removes from the mirror what the import rules do not take any more.
    async fn withdraw_not_imported(&mut self) -> Result<(), mirror::Error> {
        if self.mirror.record().imports_revision == self.imports.revision() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for resource in Resource::ALL.into_iter().filter(|resource| imports::concerns(*resource)) {
            for (rest, value) in self.mirror.mirrored(resource).await? {
                if !self.takes(resource, &rest, &value) {
                    batch.delete(&self.peer.declaration.name, resource, &rest);
                }
            }
        }
        if batch.has_writes() {
            self.mirror.write(batch).await?;
        }
        Ok(())
    }

    /// Whether the import rules take a key of the peer; counts it if not.
    fn takes(&self, resource: Resource, rest: &str, value: &[u8]) -> bool {
        let is_taken = self.imports.takes(resource, rest, value);
        if !is_taken {
            self.board.not_imported(resource, rest);
        }
        is_taken
    }

    fn reject(&self, resource: Resource, rejection: Rejection) {
        self.metrics.rejected(&rejection.peer, resource, rejection.rule);
        self.board.rejected(resource, rejection);
    }
}

/// What a Cilium cluster says of itself, asked once at its `n`th endpoint as a session would; `None` where it says nothing.
pub(crate) async fn ask_config(peer: &PeerRecord, access: &CiliumAccess, n: usize) -> Result<Option<Bytes>, Error> {
    let mut link = link::Link::prepare(peer, n, (&access.bundle()?, &access.leaf()?)).await?;
    let range = KeyRange::single(keys::cluster_config(&peer.declaration.name));
    let listing = link.list(Watched::Config, &range).await?;
    Ok(listing.and_then(|listing| listing.kvs.into_iter().next()).map(|(_, value)| value))
}

#[cfg(test)]
mod tests;
