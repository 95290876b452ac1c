//! What the replica does unasked: ending leases, and snapshots that bound the log.

use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::Command;
use tokio_util::sync::CancellationToken;

use super::log_store::LogStore;
use super::propose::Proposer;
use super::replica::Replica;
use super::types::Raft;
use crate::backend::Error;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Revokes leases whose time has run out.
pub(crate) async fn expire_leases(replica: Arc<Replica>, proposer: Proposer, stop: CancellationToken) {
    loop {
        let id = tokio::select! {
            () = stop.cancelled() => return,
            id = replica.leases.expired() => id,
        };
        match proposer.propose(Command::LeaseRevoke { id }).await {
            Ok(_) => {
                replica.metrics.leases_expired.inc();
            }
            // Revoked by its owner in the meantime.
            Err(Error::Refused(_)) => replica.leases.stop(id),
            Err(error) => {
                tracing::warn!(%error, lease = id, "expired lease cannot be revoked now, trying again");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Takes a snapshot whenever the log has grown by `log_bytes` since the last one.
pub(crate) async fn bound_log(
    replica: Arc<Replica>,
    raft: Raft,
    log: LogStore,
    log_bytes: u64,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let (on_disk, live) = log.bytes();
        replica.metrics.db_bytes.set(i64::try_from(on_disk).unwrap_or(i64::MAX));
        if live < log_bytes {
            continue;
        }
        if let Err(fatal) = raft.trigger().snapshot().await {
            tracing::error!(error = %fatal, "no snapshot can be taken any more");
            return;
        }
    }
}
