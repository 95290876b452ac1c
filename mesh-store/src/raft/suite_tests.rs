//! openraft's own suite against the log store and the state machine.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};

use super::disk::{Disk, RealDisk};
use super::log_store::LogStore;
use super::machine::Machine;
use super::replica::Replica;
use super::snapshot::SnapshotDir;
use super::types::{StorageError, StoreTypes};
use crate::metrics::Metrics;

struct InTempDir;

impl StoreBuilder<StoreTypes, LogStore, Machine, tempfile::TempDir> for InTempDir {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let log = LogStore::open(&disk, dir.path(), 1, 64 * 1024, Metrics::detached()).unwrap();
        let snapshots = SnapshotDir::open(disk, dir.path().join("snapshot")).unwrap();
        let replica = Arc::new(Replica::new(1, 1, Metrics::detached()));
        Ok((dir, log, Machine { replica, snapshots }))
    }
}

#[test]
fn openraft_accepts_the_log_store_and_the_state_machine() {
    Suite::test_all(InTempDir).unwrap();
}
