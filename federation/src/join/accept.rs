//! The side that issued the token: checks the caller, redeems, stores the new peer.

use std::sync::Arc;

use certs::TrustBundle;
use certs::token::{Bearer, Claims};
use mesh_proto::v1;
use mesh_store::Store;
use mesh_store::mvcc::TxnOp;
use mesh_types::ClusterName;

use super::check::{Conflict, check_claims};
use super::tokens::{self, Redemption, Tokens};
use crate::peer::{self, Declaration, PeerRecord, WireError};

/// Why a join was refused. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the join names no cluster")]
    NoCluster,
    #[error("the joining cluster's declaration cannot be used")]
    Declaration(#[from] WireError),
    #[error("the joining cluster's trust bundle cannot be used")]
    TrustBundle(#[source] certs::bundle::Error),
    #[error("the trust bundle of {cluster} as stored here cannot be used")]
    KnownTrustBundle { cluster: ClusterName, source: certs::bundle::Error },
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error(transparent)]
    Token(#[from] tokens::Error),
    #[error(transparent)]
    Peers(#[from] peer::Error),
}

/// Serves `Join`: the answer is this cluster's declaration.
pub async fn accept_join(
    store: &Arc<dyn Store>,
    own: &Declaration,
    request: v1::JoinRequest,
    now_unix_nanos: u64,
) -> Result<v1::JoinResponse, AcceptError> {
    let caller = Declaration::try_from(request.cluster.ok_or(AcceptError::NoCluster)?)?;
    let redeemer = compare_trust(own, &caller)?;
    let peers = peer::list(&**store).await?;
    for peer in peers.iter().filter(|peer| peer.declaration.name != caller.name) {
        compare_trust(&peer.declaration, &caller)?;
    }
    let claims: Vec<Claims> = peers.iter().map(|peer| Claims::from(&peer.declaration)).collect();
    check_claims(&own.into(), &(&caller).into(), &claims)?;
    let redemption = Redemption {
        text: &request.token,
        issuer: own.uuid,
        caller: Bearer::Cluster { name: caller.name.clone(), id: caller.id },
        redeemer: &redeemer,
        now_unix_seconds: now_unix_nanos / 1_000_000_000,
        also: record(peers, caller.clone(), now_unix_nanos).map(|peer| TxnOp::Put(peer.to_put())).into_iter().collect(),
    };
    let redeemed = Tokens::new(Arc::clone(store)).redeem(redemption).await?;
    tracing::info!(peer = %caller.name, id = %caller.id, ?redeemed, "join accepted");
    Ok(v1::JoinResponse { cluster: Some(own.into()) })
}

/// What to store for a peer: nothing when it is there with the same declaration, else a record that keeps its age.
pub(super) fn record(peers: Vec<PeerRecord>, said: Declaration, now_unix_nanos: u64) -> Option<PeerRecord> {
    match peers.into_iter().find(|peer| peer.declaration.name == said.name) {
        Some(known) if known.declaration == said => None,
        Some(known) => Some(PeerRecord { declaration: said, ..known }),
        None => Some(PeerRecord::isthmus(said, now_unix_nanos)),
    }
}

/// No CA may vouch for two clusters. Returns what the caller is known by: the hashes of its CAs.
pub(super) fn compare_trust(known: &Declaration, other: &Declaration) -> Result<String, AcceptError> {
    let mine = TrustBundle::from_pem(&known.trust_bundle_pem)
        .map_err(|source| AcceptError::KnownTrustBundle { cluster: known.name.clone(), source })?;
    let theirs = TrustBundle::from_pem(&other.trust_bundle_pem).map_err(AcceptError::TrustBundle)?;
    if let Some(ca) = mine.shared_with(&theirs) {
        let (one, other) = (known.name.clone(), other.name.clone());
        return Err(Conflict::SharedCa { one, other, ca: ca.to_string() }.into());
    }
    Ok(theirs.hashes().iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}
