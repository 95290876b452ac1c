//! openraft's state machine over [`Replica`] and its snapshot files.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot as RaftSnapshot};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::disk::{self, DiskCursor};
use super::replica::Replica;
use super::snapshot::{self, Snapshot, SnapshotDir};
use super::types::{Entry, LogId, Membership, SnapshotMeta, StorageError, StorageIoError, StoreTypes};

#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) replica: Arc<Replica>,
    pub(crate) snapshots: SnapshotDir,
}

impl RaftStateMachine<StoreTypes> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let state = self.replica.state.read();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(entries.into_iter().map(|entry| self.replica.apply(entry)).collect())
    }

    /// The view is taken here, between two entries: the builder itself runs beside the ones that follow.
    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { snapshot: Arc::new(self.replica.snapshot()), machine: self.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<DiskCursor>, StorageError> {
        let file = self.snapshots.incoming();
        file.map(Box::new).map_err(|error| StorageIoError::write_snapshot(None, &error).into())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        mut received: Box<DiskCursor>,
    ) -> Result<(), StorageError> {
        let signature = Some(meta.signature());
        let unread = |error: &io::Error| StorageIoError::read_snapshot(signature.clone(), error);
        let mut bytes = Vec::new();
        received.rewind().await.map_err(|error| unread(&error))?;
        received.read_to_end(&mut bytes).await.map_err(|error| unread(&error))?;
        let (machine, meta) = (self.clone(), meta.clone());
        let installed = disk::work(self.snapshots.disk(), move || {
            let snapshot = snapshot::parse(&bytes).map_err(io::Error::other)?;
            let snapshot = Snapshot { meta, ..snapshot };
            machine.snapshots.save(&snapshot).map_err(io::Error::other)?;
            machine.replica.restore(snapshot);
            Ok(())
        });
        let installed = installed.await;
        if installed.is_err() {
            self.snapshots.give_up();
        }
        installed.map_err(|error| StorageIoError::write_snapshot(signature, &error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot<StoreTypes>>, StorageError> {
        let read =
            |error: &dyn std::error::Error| StorageIoError::read_snapshot(None, openraft::AnyError::error(error));
        let Some((path, meta)) = self.snapshots.newest_meta().map_err(|error| read(&error))? else { return Ok(None) };
        let file = self.snapshots.file(&path).map_err(|error| read(&error))?;
        Ok(Some(RaftSnapshot { meta, snapshot: Box::new(file) }))
    }
}

/// A state to be written to disk.
pub(crate) struct Builder {
    machine: Machine,
    snapshot: Arc<Snapshot>,
}

impl RaftSnapshotBuilder<StoreTypes> for Builder {
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot<StoreTypes>, StorageError> {
        let (machine, snapshot) = (self.machine.clone(), Arc::clone(&self.snapshot));
        let written = disk::work(self.machine.snapshots.disk(), move || {
            let path = machine.snapshots.save(&snapshot).map_err(io::Error::other)?;
            machine.replica.metrics.snapshots.inc();
            Ok((snapshot.meta.clone(), path))
        });
        let (meta, path) = written.await.map_err(|error| StorageIoError::write_snapshot(None, &error))?;
        let file = self.machine.snapshots.file(&path).map_err(|error| StorageIoError::write_snapshot(None, &error))?;
        Ok(RaftSnapshot { meta, snapshot: Box::new(file) })
    }
}
