//! The mesh's own objects as one component: what outlives a term of the controller's role, and the part that a term runs.

use std::convert::Infallible;
use std::sync::Arc;

use federation::Tuning;
use mesh_runtime::Shutdown;
use mesh_store::Store;
use mesh_types::IdentityLayout;
use mesh_types::view::Encryption;
use tokio::sync::watch;

use super::client::Client;
use super::mesh_config::MeshConfigs;
use super::peerings::Peerings;
use crate::membership::Membership;

/// What this server was started with: what counts where no object says otherwise, and what none can change.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    pub tuning: Tuning,
    pub encryption: Encryption,
    pub layout: IdentityLayout,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct MeshObjects {
    client: Client,
    /// Where the Secrets are that objects name.
    namespace: String,
    membership: Membership,
    started: Started,
    tuning: watch::Sender<Tuning>,
}

/// What one term runs.
pub(crate) struct Keeper {
    peerings: Peerings,
    configs: MeshConfigs,
}

impl MeshObjects {
    /// What is told of `tuning` counts at once.
    pub fn new(
        client: Client,
        namespace: String,
        membership: Membership,
        started: Started,
        tuning: watch::Sender<Tuning>,
    ) -> Self {
        Self { client, namespace, membership, started, tuning }
    }

    pub(crate) fn of_a_term(&self, store: Arc<dyn Store>, peers: federation::Handle) -> Keeper {
        let membership = Membership { store, ..self.membership.clone() };
        Keeper {
            peerings: Peerings::new(&self.client, &self.namespace, membership, peers),
            configs: MeshConfigs::new(self.client.clone(), self.started, self.tuning.clone()),
        }
    }
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let both = Box::pin(async { tokio::join!(self.peerings.run(), self.configs.run()) });
        shutdown.unless_requested(both).await;
        Ok(())
    }
}
