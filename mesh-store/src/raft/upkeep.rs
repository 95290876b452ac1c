//! What the replica does unasked: ending leases, and snapshots and purges that bound the log.

use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::Command;
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::log_store::LogStore;
use super::replica::Replica;
use super::types::Raft;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Revokes leases whose time has run out, while this replica leads.
pub(crate) async fn expire_leases(replica: Arc<Replica>, leadership: Leadership, stop: CancellationToken) {
    loop {
        let expire = async {
            let term = leadership.lead().await;
            let id = replica.leases.expired().await;
            // A wait through a change of leader says nothing about the leases of the next term.
            if leadership.term() != term {
                return;
            }
            match leadership.decide(term, Command::LeaseRevoke { id }).await {
                Ok(()) if replica.leases.remaining(id).is_none() => {
                    replica.metrics.leases_expired.inc();
                }
                Ok(()) => {}
                Err(refusal) => {
                    tracing::warn!(%refusal, lease = id, "expired lease cannot be revoked now, trying again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = expire => {}
        }
    }
}

/// Takes a snapshot whenever the log has grown by `log_bytes` since the last one. Of the log before it, as much again is
/// kept for replicas that are a little behind (nothing in a group of one): further behind, they get the snapshot.
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
        let (covered, members) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            (metrics.snapshot.map(|log_id| log_id.index), metrics.membership_config.nodes().count())
        };
        replica.metrics.db_bytes.set(i64::try_from(log.disk_bytes()).unwrap_or(i64::MAX));
        let mut done = Ok(());
        if let Some(covered) = covered {
            let keep = if members > 1 { log_bytes } else { 0 };
            if let Some(upto) = log.purgeable(covered, keep) {
                done = raft.trigger().purge_log(upto).await;
            }
        }
        if log.bytes_after(covered) >= log_bytes {
            done = done.and(raft.trigger().snapshot().await);
        }
        if let Err(fatal) = done {
            tracing::error!(error = %fatal, "the log is not bounded any more");
            return;
        }
    }
}
