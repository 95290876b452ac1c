//! Keeps the CAs that may vouch for callers in step with the peers' records, while connections are open.

use std::collections::BTreeSet;
use std::sync::Arc;

use certs::{Authorities, Connections, TrustBundle};
use federation::contract::keys;
use federation::{PeerRecord, peer};
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::backend::{WatchRequest, WatchUpdate};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the watch of peer records cannot be started")]
    Store(#[source] mesh_store::backend::Error),
    #[error("the watch of peer records ended")]
    Watch,
}

pub struct PeerTrust {
    pub store: Arc<dyn Store>,
    pub authorities: Arc<Authorities>,
    pub connections: Connections,
}

impl PeerTrust {
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let start_revision = self.store.revision() + 1;
        let request = WatchRequest::prefix(keys::PEERS, start_revision);
        let mut watch = self.store.watch(request).await.map_err(Error::Store)?;
        self.follow().await;
        loop {
            let Some(update) = shutdown.unless_requested(watch.next()).await else { return Ok(()) };
            match update {
                // The change is only a nudge: all records are read again.
                Some(WatchUpdate::Events(_)) => self.follow().await,
                Some(WatchUpdate::Progress { .. }) => {}
                Some(WatchUpdate::Compacted { .. }) | None => return Err(Error::Watch),
            }
        }
    }

    async fn follow(&self) {
        for former in refresh(&*self.store, &self.authorities).await {
            let cut = self.connections.disconnect(&former);
            tracing::info!(peer = %former, connections = cut, "no longer trusted");
        }
    }
}

/// Trusts exactly the CAs of the peers that are stored. Returns those that are trusted no more.
pub async fn refresh(store: &dyn Store, authorities: &Authorities) -> Vec<mesh_types::ClusterName> {
    let peers = match peer::list(store).await {
        Ok(peers) => peers,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "peer records cannot be read: trust stays as it is");
            return Vec::new();
        }
    };
    for peer in &peers {
        admit(authorities, peer);
    }
    let named: BTreeSet<_> = peers.iter().map(|p| &p.declaration.name).collect();
    let former = authorities.peers().into_iter().filter(|p| !named.contains(p));
    former.filter(|p| authorities.remove_peer(p)).collect()
}

/// A bundle that cannot be used leaves this peer out, and no other.
fn admit(authorities: &Authorities, peer: &PeerRecord) {
    let name = &peer.declaration.name;
    let bundle = match TrustBundle::from_pem(&peer.declaration.trust_bundle_pem) {
        Ok(bundle) => bundle,
        Err(error) => return tracing::error!(peer = %name, error = %ErrorChain(&error), "peer cannot be trusted"),
    };
    match authorities.set_peer(name, bundle) {
        Ok(true) => tracing::info!(peer = %name, "trusted as itself"),
        Ok(false) => {}
        Err(error) => tracing::error!(peer = %name, error = %ErrorChain(&error), "peer cannot be trusted"),
    }
}
