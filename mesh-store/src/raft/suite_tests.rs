//! openraft's own suite against the log store and the state machine.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};

use super::log_store::LogStore;
use super::machine::Machine;
use super::replica::Replica;
use super::snapshot::SnapshotDir;
use super::types::{StorageError, TypeConfig};
use crate::metrics::Metrics;

struct InTempDir;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for InTempDir {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), 64 * 1024, Metrics::detached()).unwrap();
        let snapshots = SnapshotDir::open(dir.path().join("snapshot")).unwrap();
        let replica = Arc::new(Replica::new(1, 1, Metrics::detached()));
        Ok((dir, log, Machine { replica, snapshots }))
    }
}

#[test]
fn openraft_accepts_the_log_store_and_the_state_machine() {
    Suite::test_all(InTempDir).unwrap();
}
