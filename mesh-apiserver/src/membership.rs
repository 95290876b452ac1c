//! Who is in the mesh, as this cluster's people want it: joining, holding and parting. The admin API's calls and the
//! ClusterPeerings of Kubernetes do it here, so that both mean the same and leave the same records.
//!
//! ```text
//!  meshctl connect ----- token ------+                          +-- refused while an object holds it -- meshctl disconnect
//!  ClusterPeering ----- token -------+--> isthmus/v1/peers/<c> --+
//!  ClusterPeering --- declared ------+     held_by: its uid      +-- its finalizer ------------- ClusterPeering, deleted
//!  the other side redeems a token ---+
//! ```
//! It must never decide whether two clusters go together: that is [`federation::join`]'s.

use std::sync::Arc;

use certs::{Authorities, Connections};
use federation::join::{CiliumError, DeclaredError, Joined, RedeemError, join_cilium, join_declared, redeem_and_store};
use federation::peer::{CiliumAccess, PeerRecord};
use federation::{Declaration, peer};
use mesh_runtime::{ErrorChain, clock};
use mesh_store::Store;
use mesh_types::ClusterName;

use crate::trust;

/// Cheap to clone.
#[derive(Clone)]
pub struct Membership {
    pub store: Arc<dyn Store>,
    pub authorities: Arc<Authorities>,
    pub connections: Connections,
}

/// Why a cluster was not joined. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error(transparent)]
    Redeem(#[from] RedeemError),
    #[error(transparent)]
    Declared(#[from] DeclaredError),
    #[error(transparent)]
    Cilium(#[from] CiliumError),
}

/// Why a membership has not ended.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error(
        "{peer} is held by the ClusterPeering of its name in Kubernetes, which would join it again: delete that object instead \
         (kubectl delete clusterpeering {peer})"
    )]
    Held { peer: ClusterName },
    #[error(transparent)]
    Peers(#[from] peer::Error),
}

/// What this cluster declares is not known.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    #[error(transparent)]
    Peers(#[from] peer::Error),
    #[error("this cluster's record is not written yet: try again in a moment")]
    NotYet,
}

impl Membership {
    /// What this cluster declares at the moment.
    pub async fn own(&self) -> Result<Declaration, OwnError> {
        peer::own(&*self.store).await?.ok_or(OwnError::NotYet)
    }

    pub async fn find(&self, name: &ClusterName) -> Result<Option<PeerRecord>, peer::Error> {
        peer::find(&*self.store, name).await
    }

    pub async fn list(&self) -> Result<Vec<PeerRecord>, peer::Error> {
        peer::list(&*self.store).await
    }

    pub async fn redeem(&self, token: &str) -> Result<Joined, JoinError> {
        let own = self.own().await?;
        self.joined(redeem_and_store(&self.store, &own, token, clock::unix_nanos()).await).await
    }

    pub async fn declared(&self, said: Declaration) -> Result<Joined, JoinError> {
        let own = self.own().await?;
        self.joined(join_declared(&self.store, &own, said, clock::unix_nanos()).await).await
    }

    pub async fn cilium(&self, said: Declaration, access: CiliumAccess) -> Result<Joined, JoinError> {
        let own = self.own().await?;
        self.joined(join_cilium(&self.store, &own, said, access, clock::unix_nanos()).await).await
    }

    async fn joined<E: Into<JoinError>>(&self, joined: Result<Joined, E>) -> Result<Joined, JoinError> {
        let joined = joined.map_err(|error| {
            let error = error.into();
            tracing::warn!(error = %ErrorChain(&error), "connect refused");
            error
        })?;
        // The peer calls at once: do not make it wait for the watch of peer records.
        self.refresh_trust().await;
        Ok(joined)
    }

    /// An object of Kubernetes takes a membership over from `former`, another object or nobody, or lets it go. False where it
    /// has changed in the meantime.
    pub async fn hold(
        &self,
        name: &ClusterName,
        former: Option<&str>,
        holder: Option<&str>,
    ) -> Result<bool, peer::Error> {
        peer::hold(&*self.store, name, former, holder).await
    }

    /// Ends a membership that `holder` holds, an object or nobody; false if there was none.
    pub async fn part(&self, name: &ClusterName, holder: Option<&str>) -> Result<bool, PartError> {
        let held_by = self.find(name).await?.and_then(|record| record.held_by);
        if held_by.is_some() && held_by.as_deref() != holder {
            return Err(PartError::Held { peer: name.clone() });
        }
        let was_joined = peer::disconnect(&*self.store, name).await?;
        for former in self.refresh_trust().await {
            self.connections.disconnect(&former);
        }
        Ok(was_joined)
    }

    /// Where the records cannot be read now, the task that follows them does it as soon as they can.
    async fn refresh_trust(&self) -> Vec<ClusterName> {
        let refreshed = trust::refresh(&*self.store, &self.authorities).await;
        refreshed.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "trust in peers follows a little later");
            Vec::new()
        })
    }
}
