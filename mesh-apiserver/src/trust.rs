//! Keeps the CAs that may vouch for callers in step with the peers' records, while connections are open.

use std::collections::BTreeSet;
use std::sync::Arc;

use certs::{Authorities, Connections, TrustBundle};
use federation::contract::keys;
use federation::{PeerRecord, peer};
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::mvcc::KeyRange;
use mesh_types::ClusterName;

use crate::follow::{self, Changes};

pub struct PeerTrust {
    pub store: Arc<dyn Store>,
    pub authorities: Arc<Authorities>,
    pub connections: Connections,
}

impl PeerTrust {
    pub async fn run(self, shutdown: Shutdown) -> Result<(), follow::Error> {
        shutdown.unless_requested(self.run_on()).await.unwrap_or(Ok(()))
    }

    async fn run_on(self) -> Result<(), follow::Error> {
        let mut changes = Changes::new(&self.store, KeyRange::prefix(keys::PEERS), "peer records");
        loop {
            changes.next().await?;
            self.follow().await;
        }
    }

    /// Tries until the store could be read.
    async fn follow(&self) {
        let mut backoff = follow::backoff();
        loop {
            match refresh(&*self.store, &self.authorities).await {
                Ok(former) => {
                    for former in former {
                        let cut = self.connections.disconnect(&former);
                        tracing::info!(peer = %former, connections = cut, "no longer trusted");
                    }
                    let cut = self.connections.cut_untrusted(&self.authorities);
                    if cut > 0 {
                        tracing::info!(connections = cut, "cut: their cluster has dropped the CA of their leaves");
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "peer records cannot be read: trust stays as it is");
                    if matches!(error, peer::Error::Record { .. }) {
                        return;
                    }
                    backoff.wait().await;
                }
            }
        }
    }
}

/// Trusts exactly the CAs of the peers that are stored. Returns those that are trusted no more.
pub async fn refresh(store: &dyn Store, authorities: &Authorities) -> Result<Vec<ClusterName>, peer::Error> {
    let peers = peer::list(store).await?;
    for peer in &peers {
        admit(authorities, peer);
    }
    let named: BTreeSet<_> = peers.iter().map(|p| &p.declaration.name).collect();
    let former = authorities.peers().into_iter().filter(|p| !named.contains(p));
    Ok(former.filter(|p| authorities.remove_peer(p)).collect())
}

/// A bundle that cannot be used leaves this peer out, and no other.
fn admit(authorities: &Authorities, peer: &PeerRecord) {
    let name = &peer.declaration.name;
    let bundle = match TrustBundle::from_pem(&peer.declaration.trust_bundle_pem) {
        Ok(bundle) => bundle,
        Err(error) => return tracing::error!(peer = %name, error = %ErrorChain(&error), "peer cannot be trusted"),
    };
    let set = if peer.cilium.is_some() {
        authorities.set_cilium_peer(name, bundle)
    } else {
        authorities.set_peer(name, bundle)
    };
    match set {
        Ok(true) => tracing::info!(peer = %name, "trusted as itself, by the CAs of its record"),
        Ok(false) => {}
        Err(error) => tracing::error!(peer = %name, error = %ErrorChain(&error), "peer cannot be trusted"),
    }
}
