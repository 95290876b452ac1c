//! What the rest of the process may ask of the role: its figures while this replica holds it, else who does.

use std::sync::Arc;

use mesh_proto::v1;
use mesh_types::ClusterName;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::election::Holder;
use crate::{export, mcs, source};

/// The handles of a running term.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) source: source::StatusHandle,
    pub(super) export: export::StatusHandle,
    pub(super) federation: federation::Handle,
    pub(super) mcs: Option<mcs::StatusHandle>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    serving: Arc<RwLock<Option<Serving>>>,
    holder: watch::Receiver<Option<Holder>>,
}

impl Handle {
    pub(super) fn new(holder: watch::Receiver<Option<Holder>>) -> Self {
        Self { serving: Arc::default(), holder }
    }

    pub(super) fn set(&self, serving: Serving) {
        *self.serving.write() = Some(serving);
    }

    pub(super) fn clear(&self) {
        *self.serving.write() = None;
    }

    /// The replica that holds the role, as last seen in the store.
    pub fn holder(&self) -> Option<Holder> {
        self.holder.borrow().clone()
    }

    /// Whether this replica serves a term now.
    pub fn is_serving(&self) -> bool {
        self.serving.read().is_some()
    }

    /// The source's status; empty on a replica that does not read it.
    pub fn source(&self) -> source::Status {
        self.serving.read().as_ref().map(|serving| serving.source.get()).unwrap_or_default()
    }

    /// The exporter's status; empty on a replica that does not export.
    pub fn export(&self) -> export::Status {
        self.serving.read().as_ref().map(|serving| serving.export.get()).unwrap_or_default()
    }

    /// What became of the objects of the MCS API; `None` where this replica makes none.
    pub fn mcs(&self) -> Option<mcs::Status> {
        self.serving.read().as_ref().and_then(|serving| serving.mcs.as_ref().map(mcs::StatusHandle::get))
    }

    /// Why nothing is concluded about other clusters; `None` where something is, and on a replica that does not mirror.
    pub fn own_side(&self) -> Option<String> {
        self.serving.read().as_ref().and_then(|serving| serving.federation.own_side())
    }

    /// Whether this replica holds a session to the cluster, and in what state; `None` on one that does not mirror.
    pub fn session(&self, peer: &ClusterName) -> Option<federation::session::Snapshot> {
        let federation = self.serving.read().as_ref().map(|serving| serving.federation.clone())?;
        federation.peers().into_iter().find(|known| known.peer.declaration.name == *peer)
    }

    /// All that is known of every joined cluster; empty on a replica that does not mirror.
    pub fn peer_snapshots(&self) -> Vec<federation::session::Snapshot> {
        self.serving.read().as_ref().map(|serving| serving.federation.peers()).unwrap_or_default()
    }

    /// The state of every joined cluster; empty on a replica that does not mirror.
    pub async fn peers(&self) -> Vec<v1::PeerStatus> {
        let federation = self.serving.read().as_ref().map(|serving| serving.federation.clone());
        match federation {
            Some(federation) => federation.status().await,
            None => Vec::new(),
        }
    }
}
