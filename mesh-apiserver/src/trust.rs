//! Keeps the CAs that may vouch for callers in step with the peers' records, while connections are open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use certs::{Authorities, Connections, TrustBundle};
use federation::contract::keys;
use federation::{PeerRecord, peer};
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::backend::{Class, WatchRequest, WatchUpdate, Watcher};
use mesh_types::ClusterName;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("peer records cannot be followed")]
    Store(#[source] mesh_store::backend::Error),
    #[error("the watch of peer records ended")]
    Watch,
}

/// While the store has no leader nothing can be read; it has one again within seconds.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
}

pub struct PeerTrust {
    pub store: Arc<dyn Store>,
    pub authorities: Arc<Authorities>,
    pub connections: Connections,
}

impl PeerTrust {
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        shutdown.unless_requested(self.run_on()).await.unwrap_or(Ok(()))
    }

    async fn run_on(self) -> Result<(), Error> {
        let mut watch = self.watch().await?;
        self.follow().await;
        loop {
            match watch.next().await {
                // The change is only a nudge: all records are read again.
                Some(WatchUpdate::Events(_)) => self.follow().await,
                Some(WatchUpdate::Progress { .. }) => {}
                Some(WatchUpdate::Compacted { .. }) => {
                    watch = self.watch().await?;
                    self.follow().await;
                }
                None => return Err(Error::Watch),
            }
        }
    }

    async fn watch(&self) -> Result<Watcher, Error> {
        let mut backoff = backoff();
        loop {
            let request = WatchRequest::prefix(keys::PEERS, self.store.revision() + 1);
            match self.store.watch(request).await {
                Err(error) if error.class() == Class::Retryable => backoff.wait().await,
                watch => return watch.map_err(Error::Store),
            }
        }
    }

    /// Tries until the store could be read.
    async fn follow(&self) {
        let mut backoff = backoff();
        loop {
            match refresh(&*self.store, &self.authorities).await {
                Ok(former) => {
                    for former in former {
                        let cut = self.connections.disconnect(&former);
                        tracing::info!(peer = %former, connections = cut, "no longer trusted");
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
    match authorities.set_peer(name, bundle) {
        Ok(true) => tracing::info!(peer = %name, "trusted as itself"),
        Ok(false) => {}
        Err(error) => tracing::error!(peer = %name, error = %ErrorChain(&error), "peer cannot be trusted"),
    }
}
