//! `cilium/.heartbeat`: remote clusters watch that it moves, and conclude staleness when it does not.

use std::sync::Arc;
use std::time::Duration;

use federation::contract::{keys, stamp};
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::backend::Class;
use mesh_store::mvcc::PutRequest;

/// Far below every peer's limit (Cilium's: 2 minutes; ours: `staleAfter`, 15 s).
const INTERVAL: Duration = Duration::from_secs(5);

pub struct Heartbeat {
    store: Arc<dyn Store>,
}

impl Heartbeat {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Beats until stopped, the first time at once.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), mesh_store::backend::Error> {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.unless_requested(ticks.tick()).await.is_some() {
            let now = stamp::rfc3339(jiff::Timestamp::now());
            match self.store.put(PutRequest::new(keys::HEARTBEAT, now)).await {
                Ok(_) => {}
                Err(error) if error.class() == Class::Fatal => return Err(error),
                // Remote clusters see the gap, which is the truth.
                Err(error) => tracing::warn!(error = %ErrorChain(&error), "heartbeat not written"),
            }
        }
        Ok(())
    }
}
