//! Taking in a cluster by what people wrote down of it, on both sides, without a token: who it is, where it is, which CAs vouch
//! for it. Nobody is called: each side takes in the other, and the sessions show whether they have written down the same.

use std::sync::Arc;

use certs::token::Claims;
use mesh_store::Store;
use mesh_types::ClusterName;

use super::accept::{AcceptError, compare_trust, record};
use super::check::{Conflict, check_claims};
use super::redeem::Joined;
use crate::peer::{self, Declaration};

/// Why a cluster was not taken in. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum DeclaredError {
    #[error("{peer} is joined as a Cilium cluster: disconnect it first, if it is an Isthmus cluster now")]
    IsCilium { peer: ClusterName },
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("the CAs of {peer} do not go together with those known here")]
    Trust { peer: ClusterName, source: Box<AcceptError> },
    #[error(
        "{peer} is joined, and none of the CAs that are trusted for it is among those declared: if it was rebuilt, disconnect \
         it first"
    )]
    Stranger { peer: ClusterName },
    #[error(transparent)]
    Peers(#[from] peer::Error),
    #[error("{peer} could not be stored: try again")]
    Store { peer: ClusterName, source: mesh_store::backend::Error },
}

/// Takes in `said.name`, or what is newly declared of it. The CAs of one that is joined already are those that it came to by
/// its rotations.
pub async fn join_declared(
    store: &Arc<dyn Store>,
    own: &Declaration,
    said: Declaration,
    now_unix_nanos: u64,
) -> Result<Joined, DeclaredError> {
    let peer = said.name.clone();
    let peers = peer::list(&**store).await?;
    let known = peers.iter().find(|known| known.declaration.name == peer).cloned();
    if known.as_ref().is_some_and(|known| known.cilium.is_some()) {
        return Err(DeclaredError::IsCilium { peer });
    }
    let claims: Vec<Claims> = peers.iter().map(|peer| Claims::from(&peer.declaration)).collect();
    check_claims(&own.into(), &(&said).into(), &claims)?;
    let trust = |source| DeclaredError::Trust { peer: peer.clone(), source: Box::new(source) };
    let others = peers.iter().map(|other| &other.declaration).filter(|other| other.name != peer);
    for other in others.chain([own]) {
        compare_trust(other, &said).map_err(trust)?;
    }
    let said = match &known {
        Some(known) => {
            if !shares_a_ca(&known.declaration, &said).map_err(trust)? {
                return Err(DeclaredError::Stranger { peer });
            }
            // What it said of itself when it called, if it did, is not for this side's people to know.
            let Declaration { trust_bundle_pem, mesh_endpoints, version, .. } = known.declaration.clone();
            Declaration { trust_bundle_pem, mesh_endpoints, version, ..said }
        }
        None => said,
    };
    let Some(record) = record(peers, said, now_unix_nanos) else {
        let known = known.expect("nothing is to be stored only when the peer is stored already");
        return Ok(Joined { peer: known, already: true });
    };
    let stored = store.put(record.to_put()).await;
    stored.map_err(|source| DeclaredError::Store { peer: peer.clone(), source })?;
    tracing::info!(%peer, id = %record.declaration.id, "joined as declared");
    Ok(Joined { peer: record, already: false })
}

fn shares_a_ca(known: &Declaration, said: &Declaration) -> Result<bool, AcceptError> {
    match compare_trust(known, said) {
        Ok(_none) => Ok(false),
        Err(AcceptError::Conflict(Conflict::SharedCa { .. })) => Ok(true),
        Err(error) => Err(error),
    }
}
