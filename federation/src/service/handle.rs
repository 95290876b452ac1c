//! What other parts of the process may ask of federation.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::TrustBundle;
use mesh_proto::convert::prefix_message;
use mesh_proto::v1;
use mesh_store::Store;
use mesh_types::ClusterName;
use tokio::sync::watch;

use super::{Boards, OwnFault, States};
use crate::contract::Resource;
use crate::mirror;
use crate::outlook::{Paths, Sight};
use crate::session::{ResourceBoard, Snapshot};
use crate::state::State;

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    store: Arc<dyn Store>,
    boards: Boards,
    own_fault: OwnFault,
    states: watch::Receiver<States>,
}

impl Handle {
    pub(super) fn new(
        store: Arc<dyn Store>,
        boards: Boards,
        own_fault: OwnFault,
        states: watch::Receiver<States>,
    ) -> Self {
        Self { store, boards, own_fault, states }
    }

    /// The state of every joined cluster, and a wake-up for each change: backends of a `Withdrawn` one are not used.
    pub fn states(&self) -> watch::Receiver<States> {
        self.states.clone()
    }

    pub fn state(&self, peer: &ClusterName) -> Option<State> {
        self.states.borrow().get(peer).copied()
    }

    /// Why nothing is concluded about other clusters now: the fault seems to be on the own side.
    pub fn own_side(&self) -> Option<String> {
        self.own_fault.read().clone()
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
        let shared = shared_cas(&self.peers());
        for status in &mut all {
            status.shares_ca_with = shared.get(&status.name).cloned().unwrap_or_default();
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
        not_imported: board.not_imported,
        last_not_imported: board.last_not_imported.clone().unwrap_or_default(),
    }
}

/// For each Cilium cluster the others that have a CA in common with it.
fn shared_cas(peers: &[Snapshot]) -> BTreeMap<String, Vec<String>> {
    let cilium = peers.iter().map(|known| &known.peer).filter(|peer| peer.cilium.is_some());
    let bundles: Vec<(String, TrustBundle)> = cilium
        .filter_map(|peer| {
            let bundle = TrustBundle::from_pem(&peer.declaration.trust_bundle_pem).ok()?;
            Some((peer.declaration.name.to_string(), bundle))
        })
        .collect();
    let others = |name: &str, bundle: &TrustBundle| {
        let shared = bundles.iter().filter(|(other, cas)| other != name && cas.shared_with(bundle).is_some());
        shared.map(|(other, _)| other.clone()).collect()
    };
    bundles.iter().map(|(name, bundle)| (name.clone(), others(name, bundle))).collect()
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
        is_cilium: known.peer.cilium.is_some(),
        shares_ca_with: Vec::new(),
        trust_refused: known.trust_refusal.unwrap_or_default(),
        paths: Some(paths_status(known.sight)),
    }
}

fn paths_status(sight: Option<Sight>) -> v1::PathsStatus {
    match sight {
        Some(Sight { paths, since_unix_nanos, unreached_by }) => {
            v1::PathsStatus { state: paths.name().to_owned(), since_unix_nanos, unreached_by }
        }
        None => v1::PathsStatus { state: Paths::Unknown.name().to_owned(), ..v1::PathsStatus::default() },
    }
}
