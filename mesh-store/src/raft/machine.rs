//! openraft's state machine over [`Replica`] and its snapshot files.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot as RaftSnapshot};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::replica::Replica;
use super::snapshot::{self, Snapshot, SnapshotDir, SnapshotError};
use super::types::{Entry, LogId, Membership, SnapshotMeta, StorageError, StorageIoError, TypeConfig};

#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) replica: Arc<Replica>,
    pub(crate) snapshots: SnapshotDir,
}

impl RaftStateMachine<TypeConfig> for Machine {
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

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<File>, StorageError> {
        let path = self.snapshots.incoming().map_err(|error| StorageIoError::write_snapshot(None, &error))?;
        let file = File::options().read(true).write(true).open(path).await;
        file.map(Box::new).map_err(|error| StorageIoError::write_snapshot(None, &error).into())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, mut received: Box<File>) -> Result<(), StorageError> {
        let signature = Some(meta.signature());
        let unread = |error: &io::Error| StorageIoError::read_snapshot(signature.clone(), error);
        let mut bytes = Vec::new();
        received.rewind().await.map_err(|error| unread(&error))?;
        received.read_to_end(&mut bytes).await.map_err(|error| unread(&error))?;
        let (machine, meta) = (self.clone(), meta.clone());
        let installed = tokio::task::spawn_blocking(move || {
            let snapshot = snapshot::parse(&bytes).map_err(io::Error::other)?;
            let snapshot = Snapshot { meta, ..snapshot };
            machine.snapshots.save(&snapshot).map_err(io::Error::other)?;
            machine.replica.restore(snapshot);
            Ok::<_, io::Error>(())
        });
        let installed = installed.await.map_err(io::Error::other).flatten();
        installed.map_err(|error| StorageIoError::write_snapshot(signature, &error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot<TypeConfig>>, StorageError> {
        let read =
            |error: &dyn std::error::Error| StorageIoError::read_snapshot(None, openraft::AnyError::error(error));
        let Some((path, meta)) = self.snapshots.newest_meta().map_err(|error| read(&error))? else { return Ok(None) };
        let file = File::open(path).await.map_err(|error| read(&error))?;
        Ok(Some(RaftSnapshot { meta, snapshot: Box::new(file) }))
    }
}

/// A state to be written to disk.
pub(crate) struct Builder {
    machine: Machine,
    snapshot: Arc<Snapshot>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot<TypeConfig>, StorageError> {
        let (machine, snapshot) = (self.machine.clone(), Arc::clone(&self.snapshot));
        let written = tokio::task::spawn_blocking(move || {
            let path = machine.snapshots.save(&snapshot)?;
            machine.replica.metrics.snapshots.inc();
            Ok::<_, SnapshotError>((snapshot.meta.clone(), path))
        });
        let written = written.await.map_err(|error| StorageIoError::write_snapshot(None, &error))?;
        let (meta, path) = written.map_err(|error| StorageIoError::write_snapshot(None, &error))?;
        let file = File::open(path).await.map_err(|error| StorageIoError::write_snapshot(None, &error))?;
        Ok(RaftSnapshot { meta, snapshot: Box::new(file) })
    }
}
