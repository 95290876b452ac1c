//! What one replica does for all: moves the rotation on when everybody has followed, and tells joined clusters which of their
//! CAs this one trusts. A part of the controller's term, over its fenced store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certs::TrustBundle;
use certs::rotation::Step;
use federation::contract::keys;
use federation::trust::encode_trusted;
use federation::{PeerRecord, peer};
use mesh_runtime::{ErrorChain, Shutdown, clock};
use mesh_store::Store;
use mesh_store::backend::Error as StoreError;
use mesh_store::mvcc::{DeleteRangeRequest, KeyRange, PutRequest, RangeRequest};

use super::parties::{Parties, hashes};
use super::record::{read_ca, replace_ca};
use crate::follow::{self, Changes};

/// How long both CAs are trusted by all before the new one signs: time to look, and for clocks that differ.
pub const OVERLAP: Duration = Duration::from_secs(10);
/// How often parties are asked while something waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub struct Conductor {
    /// Fenced.
    pub store: Arc<dyn Store>,
    pub parties: Parties,
    pub federation: federation::Handle,
}

/// Why a round came to nothing. The next one is a moment later.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Record(#[from] super::record::Error),
    #[error(transparent)]
    Peers(#[from] peer::Error),
    #[error("the store cannot answer")]
    Store(#[from] StoreError),
}

impl Conductor {
    pub async fn run(self, shutdown: Shutdown) -> Result<(), follow::Error> {
        shutdown.unless_requested(self.run_on()).await.unwrap_or(Ok(()))
    }

    async fn run_on(self) -> Result<(), follow::Error> {
        let mut peers = Changes::new(&self.store, KeyRange::prefix(keys::PEERS), "peer records");
        let mut rotations = Changes::new(&self.store, KeyRange::single(keys::ROTATION_CA), "the rotation's record");
        peers.next().await?;
        rotations.next().await?;
        let mut said = String::new();
        loop {
            let round = async { Ok::<_, Error>(self.tell_peers().await? & self.move_on().await?) };
            let (is_done, error) = match round.await {
                Ok(is_done) => (is_done, String::new()),
                Err(error) => (false, ErrorChain(&error).to_string()),
            };
            if error != said && !error.is_empty() {
                tracing::warn!(error, "rotation waits");
            }
            said = error;
            tokio::select! {
                changed = peers.next() => changed?,
                changed = rotations.next() => changed?,
                () = tokio::time::sleep(LOOK_EVERY), if !is_done => {}
            }
        }
    }

    /// One look at the record, and one step if everybody is there. Returns whether nothing is left to be done.
    async fn move_on(&self) -> Result<bool, Error> {
        let known = read_ca(&*self.store).await?;
        let Some(record) = known.value.as_ref().filter(|record| !record.stage.is_over()) else {
            return Ok(true);
        };
        let census = self.parties.ask().await?;
        let reports = census.reports(&self.federation.peers());
        if let Step::Enter(next) = record.step(clock::unix_seconds(), OVERLAP, &reports)
            && replace_ca(&*self.store, &known, &next).await?
        {
            tracing::info!(from = %record.stage, to = %next.stage, "the rotation of the CA goes on");
        }
        Ok(false)
    }

    /// Writes for every joined cluster which of its CAs all replicas that run trust, once they all do. A replica that does
    /// not run reads the records before it lets anybody in. Returns whether all is told.
    async fn tell_peers(&self) -> Result<bool, Error> {
        let found = self.store.range(RangeRequest::prefix(keys::EXPORT_TRUSTED)).await?;
        let mut told: BTreeMap<String, bytes::Bytes> =
            found.kvs.into_iter().map(|kv| (String::from_utf8_lossy(&kv.key).into_owned(), kv.value)).collect();
        let mut stale = Vec::new();
        for record in peer::list(&*self.store).await? {
            let key = keys::export_trusted(&record.declaration.name);
            let Ok(bundle) = TrustBundle::from_pem(&record.declaration.trust_bundle_pem) else { continue };
            let value = encode_trusted(&bundle.hash_set());
            if told.remove(&key).is_none_or(|known| known != value) {
                stale.push((key, value, record, bundle));
            }
        }
        for former in told.into_keys() {
            self.store.delete_range(DeleteRangeRequest::key(former)).await?;
        }
        if stale.is_empty() {
            return Ok(true);
        }
        let census = self.parties.ask().await?;
        let mut is_done = true;
        for (key, value, PeerRecord { declaration, .. }, bundle) in stale {
            let trusts = |held: &mesh_proto::v1::GetHeldResponse| {
                let known = held.peers.iter().find(|peer| peer.name == declaration.name.as_str());
                known.is_some_and(|peer| hashes(&peer.cas) == bundle.hash_set())
            };
            if census.replicas.values().all(trusts) {
                self.store.put(PutRequest::new(key, value)).await?;
            } else {
                is_done = false;
            }
        }
        Ok(is_done)
    }
}
