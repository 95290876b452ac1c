//! The few facts that must outlive a crash but are not in the log: the vote, what was purged, and the group's number.
//!
//! One small file, replaced as a whole (write, sync, rename, sync the folder), so that it is always either old or new.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{self, Disk, DiskCursor};
use super::types::{LogId, Vote};

const FORMAT: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error("{path:?} cannot be read or written")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path:?} is damaged: {reason}. Restore this replica from another one, or from a backup")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path:?} is of storage format {found}, this program knows format {FORMAT}")]
    Format { path: PathBuf, found: u32 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    /// The number of the group that this replica belongs to; 0 before it belongs to one.
    pub(crate) cluster_id: u64,
}

#[derive(Debug)]
pub(crate) struct MetaFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub(crate) meta: Meta,
}

impl MetaFile {
    /// Reads the file; `None` in a folder that has none is an empty [`Meta`].
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, MetaError> {
        let path = dir.join("meta");
        let bytes = match disk::read_all(&*disk, &path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { disk, path, meta: Meta::default() });
            }
            Err(source) => return Err(MetaError::Io { path, source }),
        };
        let damaged = |reason: &str| MetaError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let (head, body) = bytes.split_at_checked(8).ok_or_else(|| damaged("it is too short"))?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if word(0) != FORMAT {
            return Err(MetaError::Format { path, found: word(0) });
        }
        if crc32fast::hash(body) != word(4) {
            return Err(damaged("its checksum does not match"));
        }
        let meta = postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))?;
        Ok(Self { disk, path, meta })
    }

    /// Replaces the file. The value in memory changes only when that has succeeded.
    pub(crate) fn save(&mut self, meta: Meta) -> io::Result<()> {
        let body = postcard::to_stdvec(&meta).map_err(io::Error::other)?;
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        replace(&*self.disk, &self.path, |file| file.write_all(&bytes))?;
        self.meta = meta;
        Ok(())
    }
}

/// Writes a file beside `path` and renames it over it; after a crash there is the old one or the new one.
pub(crate) fn replace(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut DiskCursor) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = DiskCursor::new(disk.create(&temporary)?);
    write(&mut file)?;
    file.sync_all()?;
    disk.rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::raft::disk::RealDisk;

    fn open(dir: &Path) -> Result<MetaFile, MetaError> {
        MetaFile::open(Arc::new(RealDisk), dir)
    }

    #[test]
    fn what_was_saved_is_found_again_and_damage_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(dir.path()).unwrap();
        assert_eq!(file.meta, Meta::default());
        let meta = Meta { vote: Some(Vote::new(3, 1)), purged: None, cluster_id: 7 };
        file.save(meta.clone()).unwrap();
        assert_eq!(open(dir.path()).unwrap().meta, meta);

        let path = dir.path().join("meta");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(dir.path()), Err(MetaError::Damaged { .. })));
        bytes[0] = 9;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(dir.path()), Err(MetaError::Format { found: 9, .. })));
    }
}
