//! The few facts that must outlive a crash but are not in the log: the vote, what was purged, and the group's number.
//!
//! One small file, replaced as a whole, so that it is always either old or new. A second one of the same length lies beside it:
//! the new facts are written there, synced, and the two change names. So a vote can be cast on a disk that is full.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{self, Disk, DiskCursor};
use super::types::{LogId, Vote};

const FORMAT: u32 = 2;
/// What the facts are filled up to, so that each file fits the next ones.
const BODY_BYTES: usize = 504;

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
    /// What is in it means nothing.
    spare: PathBuf,
    pub(crate) meta: Meta,
}

impl MetaFile {
    /// Reads the file; `None` in a folder that has none is an empty [`Meta`].
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, MetaError> {
        let (path, spare) = (dir.join("meta"), dir.join("meta.spare"));
        // The two may have changed names without that being durable: then the spare is what a crash would bring back.
        disk.sync_dir(dir).map_err(|source| MetaError::Io { path: dir.to_path_buf(), source })?;
        let bytes = match disk::read_all(&*disk, &path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { disk, path, spare, meta: Meta::default() });
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
        Ok(Self { disk, path, spare, meta })
    }

    /// Replaces the file. The value in memory changes only when that has succeeded.
    pub(crate) fn save(&mut self, meta: Meta) -> io::Result<()> {
        let mut body = postcard::to_stdvec(&meta).map_err(io::Error::other)?;
        body.resize(body.len().max(BODY_BYTES), 0);
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        if !self.save_to_spare(&bytes)? {
            replace(&*self.disk, &self.path, |file| file.write_all(&bytes))?;
            if let Err(error) = self.make_spare(bytes.len()) {
                tracing::debug!(%error, path = %self.spare.display(), "no spare file for the next vote");
            }
        }
        self.meta = meta;
        Ok(())
    }

    /// False when there is no spare that fits, or the file system cannot exchange names.
    fn save_to_spare(&self, bytes: &[u8]) -> io::Result<bool> {
        let Ok(spare) = self.disk.open(&self.spare) else { return Ok(false) };
        if spare.size()? != bytes.len() as u64 {
            return Ok(false);
        }
        spare.write_at(bytes, 0)?;
        spare.sync_all()?;
        if self.disk.exchange(&self.spare, &self.path).is_err() {
            return Ok(false);
        }
        self.path.parent().map_or(Ok(()), |dir| self.disk.sync_dir(dir))?;
        Ok(true)
    }

    fn make_spare(&self, len: usize) -> io::Result<()> {
        let made = self.disk.create(&self.spare).and_then(|file| {
            file.write_at(&vec![0; len], 0)?;
            file.sync_all()
        });
        if made.is_err() {
            // Of no use, and it may take what is left of the disk.
            drop(self.disk.remove(&self.spare));
        }
        made
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
    if let Err(error) = write(&mut file).and_then(|()| file.sync_all()) {
        // On a full disk, what it takes is needed elsewhere.
        drop(disk.remove(&temporary));
        return Err(error);
    }
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
    fn a_vote_needs_no_new_space() {
        use std::os::unix::fs::MetadataExt as _;

        let dir = tempfile::tempdir().unwrap();
        let inodes =
            || ["meta", "meta.spare"].map(|name| fs::metadata(dir.path().join(name)).map(|file| file.ino()).unwrap());
        let mut file = open(dir.path()).unwrap();
        file.save(Meta::default()).unwrap();
        let before = inodes();
        for term in 1..4 {
            let meta = Meta { vote: Some(Vote::new(term, 1)), ..Meta::default() };
            file.save(meta.clone()).unwrap();
            assert_eq!(open(dir.path()).unwrap().meta, meta);
        }
        let [one, other] = before;
        assert_eq!(inodes(), [other, one], "three saves in the two files that there were");
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
