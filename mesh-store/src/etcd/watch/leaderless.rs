//! Watches of clients that would rather turn to another replica than follow one that has lost its leader.
//!
//! Source: etcd's `server/etcdserver/api/v3rpc/interceptor.go` (metadata `hasleader`, monitored streams).

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::backend::{Error, Leadership, Store};

/// How often it is looked whether there is a leader.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks in a row without a leader, as etcd counts three election timeouts: an election is no reason to move.
const LOOKS: u32 = 6;

/// Whether the client asked for it, as etcd's clients do with `WithRequireLeader`.
pub(super) fn is_required(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// Resolves when there has been no leader for 3 s.
pub(super) async fn lost(store: Arc<dyn Store>) {
    let mut missing = 0;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while missing < LOOKS {
        looks.tick().await;
        missing = if store.leadership() == Leadership::Nowhere { missing + 1 } else { 0 };
    }
}

pub(super) fn status() -> Status {
    super::super::status::of(&Error::NoLeader)
}
