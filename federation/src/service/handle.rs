//! What other parts of the process may ask of federation.

use std::sync::Arc;

use mesh_proto::convert::prefix_message;
use mesh_proto::v1;
use mesh_store::Store;
use mesh_types::ClusterName;
use tokio::sync::watch;

use super::{Boards, States};
use crate::contract::Resource;
use crate::mirror;
use crate::session::{ResourceBoard, Snapshot};
use crate::state::State;

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    store: Arc<dyn Store>,
    boards: Boards,
    states: watch::Receiver<States>,
}

impl Handle {
    pub(super) fn new(store: Arc<dyn Store>, boards: Boards, states: watch::Receiver<States>) -> Self {
        Self { store, boards, states }
    }

    /// The state of every joined cluster, and a wake-up for each change: backends of a `Withdrawn` one are not used.
    pub fn states(&self) -> watch::Receiver<States> {
        self.states.clone()
    }

    pub fn state(&self, peer: &ClusterName) -> Option<State> {
        self.states.borrow().get(peer).copied()
    }

    /// Everything that is known of each peer, in order of their names.
    pub fn peers(&self) -> Vec<Snapshot> {
        self.boards.read().values().map(crate::session::Board::snapshot).collect()
    }

    /// The same as the admin API's messages, with the number of mirrored keys from the store.
    pub async fn status(&self) -> Vec<v1::PeerStatus> {
        let mut all = Vec::new();
        for known in self.peers() {
            let mut resources = Vec::new();
            for (resource, board) in &known.resources {
                let count = mirror::count(&*self.store, &known.peer.declaration.name, *resource).await;
                let keys = count.ok().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
                resources.push(resource_status(*resource, board, keys));
            }
            all.push(peer_status(known, resources));
        }
        all
    }
}

fn resource_status(resource: Resource, board: &ResourceBoard, keys: u32) -> v1::ResourceStatus {
    v1::ResourceStatus {
        resource: resource.name().to_owned(),
        synced: board.is_synced,
        keys,
        rejected: board.rejected,
        last_rejection: board.last_rejection.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn peer_status(known: Snapshot, resources: Vec<v1::ResourceStatus>) -> v1::PeerStatus {
    let declaration = known.peer.declaration;
    v1::PeerStatus {
        name: declaration.name.to_string(),
        id: declaration.id.get(),
        state: known.standing.state.to_string(),
        since_unix_nanos: known.standing.since_unix_nanos,
        reason: known.standing.reason,
        endpoints: declaration.etcd_endpoints,
        last_heartbeat_unix_nanos: known.last_heartbeat_unix_nanos,
        resources,
        reconnects: known.connections.saturating_sub(1),
        relists: known.relists,
        pod_prefixes: declaration.pod_prefixes.iter().map(prefix_message).collect(),
        mirrored_revision: known.mirrored_revision,
        clock_offset_micros: known.clock_offset_micros,
        trust_refused: known.trust_refusal.unwrap_or_default(),
    }
}
