//! A replica's state into a backup, and a backup into a new store.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use super::{Embedded, OpenError, Options};
use crate::backend::{Backup, BackupChunk, Error, Result};
use crate::backup::{self, BackupError, BackupHead};
use crate::metrics::Metrics;
use crate::raft::snapshot::{Snapshot, SnapshotError};

const CHUNK: usize = 256 * 1024;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("{dir:?} is not empty: a backup is restored into a folder of its own, so that nothing is overwritten")]
    NotEmpty { dir: PathBuf },
    #[error("{dir:?} cannot be used")]
    Dir { dir: PathBuf, source: io::Error },
    #[error("the new store cannot be made")]
    Open(#[from] OpenError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A restored store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub backup: BackupHead,
    /// The new store's own number: whoever has read the old one reads again.
    pub cluster_id: u64,
}

impl Embedded {
    /// The state as of now. It is written to a file without a name first, so that a slow reader holds no memory.
    pub(super) async fn write_backup(&self) -> Result<Backup> {
        let failed = |error: io::Error| Error::Failed { reason: format!("a backup cannot be written: {error}") };
        let (replica, snapshots) = (Arc::clone(&self.replica), self.snapshots.clone());
        let written = tokio::task::spawn_blocking(move || -> io::Result<(File, u64)> {
            let Snapshot { cluster_id, image, .. } = replica.snapshot();
            let mut file = snapshots.unnamed()?;
            let size = backup::write(&mut file, cluster_id, &image)?;
            file.rewind()?;
            Ok((file, size))
        });
        let (file, size) = written.await.map_err(io::Error::other).and_then(|written| written).map_err(failed)?;
        let chunks = stream::try_unfold((file, size), move |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || -> io::Result<(File, Vec<u8>)> {
                let mut data = Vec::with_capacity(CHUNK);
                (&mut file).take(CHUNK as u64).read_to_end(&mut data)?;
                Ok((file, data))
            });
            let (file, data) = read.await.map_err(io::Error::other).and_then(|read| read).map_err(failed)?;
            let remaining = left.saturating_sub(data.len() as u64);
            Ok(Some((BackupChunk { data: Bytes::from(data), remaining }, (file, remaining))))
        });
        Ok(Backup { chunks: chunks.boxed() })
    }

    /// Makes a new store of one replica in `dir` that begins with what the backup holds, under a number of its own.
    pub async fn restore(file: &Path, dir: &Path) -> std::result::Result<Restored, RestoreError> {
        let at = |source| RestoreError::Dir { dir: dir.to_path_buf(), source };
        fs::create_dir_all(dir).map_err(at)?;
        if fs::read_dir(dir).map_err(at)?.next().is_some() {
            return Err(RestoreError::NotEmpty { dir: dir.to_path_buf() });
        }
        let (head, image) = backup::read(file)?;
        let store = Self::open(Options::new(dir), Metrics::detached()).await?;
        // The new store as it would be after its first entries, but for what is in it.
        let snapshot = Snapshot { image, ..store.replica.snapshot() };
        let cluster_id = snapshot.cluster_id;
        let saved = store.snapshots.save(&snapshot);
        store.shutdown().await;
        saved?;
        Ok(Restored { backup: head, cluster_id })
    }
}
