//! What a connection does with trust: reads what the peer says of CAs, takes over the peer's own, and ends when the CA that
//! verified it is gone. Never judges: [`crate::trust`] does.

use std::time::Duration;

use bytes::Bytes;
use certs::TrustBundle;
use mesh_runtime::ErrorChain;
use mesh_store::mvcc::KeyRange;
use tokio::time::Instant;

use super::Connection;
use crate::contract::keys;
use crate::mirror::Watched;
use crate::session::error::Error;
use crate::trust;

/// What a peer says of its CAs is taken over at most so often.
const TRUST_EVERY: Duration = Duration::from_secs(1);

impl Connection<'_> {
    /// Reads what the peer says of CAs, its own and ours. By itself, and not from a resume point: trust is never taken from
    /// a replay, and a step that was not finished before a crash is taken again.
    ///
    /// A Cilium cluster says nothing of CAs: what its people wrote down counts.
    pub(super) async fn read_trust(&mut self) -> Result<(), Error> {
        if self.session.peer.cilium.is_some() {
            return Ok(());
        }
        let Some(listing) = self.link.list(Watched::Export, &KeyRange::prefix(keys::EXPORT_TRUST)).await? else {
            return Ok(());
        };
        self.heard(listing.cluster_id)?;
        self.trust_revision = listing.revision;
        self.session.board.update(|known| known.trusts_us = None);
        for (key, value) in listing.kvs {
            self.said_of_trust(&key, Some(value));
        }
        Ok(())
    }

    pub(super) fn said_of_trust(&mut self, key: &[u8], value: Option<Bytes>) {
        if self.session.peer.cilium.is_some() {
            return;
        }
        if key == keys::EXPORT_TRUST.as_bytes() {
            // A peer that says nothing more has not changed anything.
            self.trust_said = value.or(self.trust_said.take());
        } else if key == keys::export_trusted(&self.session.own).as_bytes() {
            let trusted = value.and_then(|value| trust::decode_trusted(&value));
            self.session.board.update(|known| known.trusts_us = trusted);
        }
    }

    /// Takes over what the peer says of its own CAs. What is refused changes nothing and is shown.
    pub(super) async fn follow_trust(&mut self) -> Result<(), Error> {
        if self.trust_at > Instant::now() {
            return Ok(());
        }
        let Some(said) = self.trust_said.take() else { return Ok(()) };
        let peer = self.session.peer.declaration.name.clone();
        let refusal = match trust::follow(self.session.mirror.store(), &peer, &said).await {
            Ok(is_news) => {
                if is_news {
                    self.trust_at = Instant::now() + TRUST_EVERY;
                }
                None
            }
            Err(trust::Error::Refused(refusal)) => {
                let text = ErrorChain(&refusal).to_string();
                tracing::warn!(%peer, reason = text, "its CAs stay as they were");
                self.trust_at = Instant::now() + TRUST_EVERY;
                Some(text)
            }
            Err(error) => return Err(Error::Trust(error)),
        };
        self.session.board.update(|known| known.trust_refusal = refusal);
        Ok(())
    }

    /// CAs that were added change nothing for an open connection. One that is gone may be the one that verified this.
    pub(super) fn check_trust(&mut self) -> Result<(), Error> {
        let now = TrustBundle::from_pem(&self.session.trust.borrow_and_update()).map_err(Error::TrustBundle)?;
        if self.bundle.hash_set().is_subset(&now.hash_set()) {
            return Ok(());
        }
        Err(Error::TrustChanged)
    }
}
