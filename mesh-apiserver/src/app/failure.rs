//! The end of a replica whose store has failed, for which a full disk is the usual reason.
//!
//! The process ends, with an error, so that whoever supervises it starts it again: then it is known what is on disk. But not
//! before there is room: until then it says what it waits for, in its log and at `/readyz`, instead of failing over and over.

use std::sync::Arc;
use std::time::Duration;

use certs::Connections;
use mesh_runtime::{Readiness, Shutdown};
use mesh_store::{Embedded, NoRoom};

const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
#[error("the store of this replica has failed: {reason}. Started again, it goes on where its disk says")]
pub(super) struct StoreFailed {
    reason: String,
}

/// Ends with an error when the store has failed and could be started again.
///
/// Until then the rest of the process stays, to say so: it has no news any more. Nobody is to wait here for what the others
/// would answer at once, so connections are cut.
pub(super) async fn watch(
    store: Arc<Embedded>,
    connections: Connections,
    readiness: Readiness,
    shutdown: Shutdown,
) -> Result<(), StoreFailed> {
    let Some(reason) = shutdown.unless_requested(store.failed()).await else { return Ok(()) };
    tracing::error!(reason, "the store of this replica has failed, the others go on");
    let mut unready = None;
    until_there_is_room(&store, &shutdown, |lack| {
        unready.get_or_insert_with(|| readiness.await_for(format!("room for the store, which has failed ({lack})")));
        connections.cut_where(|_| true);
    })
    .await;
    // What was awaited comes with the next start, not with the end of this task.
    std::mem::forget(unready);
    Err(StoreFailed { reason })
}

/// Says what is wanted until there is room, or the process is told to stop; does `meanwhile` at each look. Returns at once where
/// a full disk is not the reason.
pub(super) async fn until_there_is_room(store: &Embedded, shutdown: &Shutdown, mut meanwhile: impl FnMut(&NoRoom)) {
    let mut said = false;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while let Err(lack) = store.has_room() {
        if !said {
            tracing::error!("{lack}. This replica waits for that before it starts again");
            said = true;
        }
        meanwhile(&lack);
        if shutdown.unless_requested(looks.tick()).await.is_none() {
            return;
        }
    }
}
