//! Taking a Cilium cluster in as a peer: what its people wrote down is compared, its store is asked once, then it is stored.
//!
//! Nothing is changed at the Cilium cluster, and nothing here before everything was found right.

use std::sync::Arc;

use certs::token::Claims;
use mesh_store::Store;
use mesh_types::ClusterName;

use super::accept::{AcceptError, compare_trust};
use super::check::{Conflict, check_claims};
use super::redeem::Joined;
use crate::contract::validate::Rejection;
use crate::peer::{self, AccessError, CiliumAccess, Declaration, PeerRecord};
use crate::session;

/// Why a Cilium cluster was not taken in. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum CiliumError {
    #[error("no endpoint of {peer} is given: name the addresses of its clustermesh-apiserver")]
    NoEndpoint { peer: ClusterName },
    #[error("this is {own} itself: a cluster cannot join itself")]
    Own { own: ClusterName },
    #[error("{peer} is joined as an Isthmus cluster: disconnect it first, if it is a Cilium cluster now")]
    IsIsthmus { peer: ClusterName },
    #[error("{peer} cannot be called")]
    Access { peer: ClusterName, source: AccessError },
    #[error(
        "the client certificate for {peer} is named {name:?}: its etcd knows \"remote\" and \"remote-{own}\", so use one \
         of its Secret clustermesh-apiserver-remote-cert"
    )]
    Name { peer: ClusterName, own: ClusterName, name: String },
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("the CAs of {peer} do not go together with those known here")]
    Trust { peer: ClusterName, source: Box<AcceptError> },
    #[error("the etcd of {peer} gives no answer: {attempts}")]
    Unreachable { peer: ClusterName, attempts: String },
    #[error(
        "the etcd of {peer} at {endpoint} has no cluster-config of it: is its name right, and its exporter running?"
    )]
    NoConfig { peer: ClusterName, endpoint: String },
    #[error("{peer} says something else of itself than was written down for it")]
    OtherConfig { peer: ClusterName, source: Rejection },
    #[error(transparent)]
    Peers(#[from] peer::Error),
    #[error("{peer} could not be stored: try again")]
    Store { peer: ClusterName, source: mesh_store::backend::Error },
}

/// Takes in `declaration.name`, or replaces what is known of it. `declaration.uuid` counts for a new one only.
pub async fn join_cilium(
    store: &Arc<dyn Store>,
    own: &Declaration,
    declaration: Declaration,
    access: CiliumAccess,
    now_unix_nanos: u64,
) -> Result<Joined, CiliumError> {
    let peer = declaration.name.clone();
    let peers = peer::list(&**store).await?;
    let known = peers.iter().find(|known| known.declaration.name == peer);
    if known.is_some_and(|known| known.cilium.is_none()) {
        return Err(CiliumError::IsIsthmus { peer });
    }
    if access.endpoints.is_empty() {
        return Err(CiliumError::NoEndpoint { peer });
    }
    if peer == own.name {
        return Err(CiliumError::Own { own: peer });
    }
    let uncallable = |source| CiliumError::Access { peer: peer.clone(), source };
    let leaf = access.leaf().map_err(uncallable)?;
    let name = leaf.common_name();
    if name != "remote" && name.strip_prefix("remote-") != Some(own.name.as_str()) {
        return Err(CiliumError::Name { peer, own: own.name.clone(), name: name.to_owned() });
    }
    let declaration = Declaration {
        uuid: known.map_or(declaration.uuid, |known| known.declaration.uuid),
        trust_bundle_pem: access.bundle().map_err(uncallable)?.pem(),
        etcd_endpoints: access.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect(),
        ..declaration
    };
    let claims: Vec<Claims> = peers.iter().map(|known| Claims::from(&known.declaration)).collect();
    check_claims(&own.into(), &(&declaration).into(), &claims)?;
    // Clusters of one Cilium mesh have a CA in common: told apart by common name, or not at all (`Authorities`).
    let others = peers.iter().filter(|other| other.cilium.is_none()).map(|other| &other.declaration);
    for other in others.chain([own]) {
        compare_trust(other, &declaration)
            .map_err(|source| CiliumError::Trust { peer: peer.clone(), source: Box::new(source) })?;
    }
    let record = match known {
        Some(known) if known.declaration == declaration && known.cilium.as_ref() == Some(&access) => {
            return Ok(Joined { peer: known.clone(), already: true });
        }
        Some(known) => PeerRecord { declaration, cilium: Some(access.clone()), ..known.clone() },
        None => PeerRecord::cilium(declaration, access.clone(), now_unix_nanos),
    };
    ask(&record, &access).await?;
    let stored = store.put(record.to_put()).await;
    stored.map_err(|source| CiliumError::Store { peer: peer.clone(), source })?;
    tracing::info!(%peer, id = %record.declaration.id, "Cilium cluster joined");
    Ok(Joined { peer: record, already: false })
}

/// Its own word about itself, from the first endpoint that answers.
async fn ask(record: &PeerRecord, access: &CiliumAccess) -> Result<(), CiliumError> {
    let peer = &record.declaration.name;
    let mut attempts = Vec::new();
    for (n, endpoint) in record.declaration.etcd_endpoints.iter().enumerate() {
        match session::ask_config(record, access, n).await {
            Ok(Some(value)) => {
                let checked = record.declaration.rules().check_config(&value);
                return checked.map(drop).map_err(|source| CiliumError::OtherConfig { peer: peer.clone(), source });
            }
            Ok(None) => return Err(CiliumError::NoConfig { peer: peer.clone(), endpoint: endpoint.clone() }),
            Err(error) => attempts.push(mesh_runtime::ErrorChain(&error).to_string()),
        }
    }
    Err(CiliumError::Unreachable { peer: peer.clone(), attempts: attempts.join("; ") })
}
