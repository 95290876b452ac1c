//! Snapshots as files: written beside, synced, renamed; the newest is kept.
//!
//! ```text
//!  magic 8 bytes | length u64 | crc u32 | body (postcard)          (little endian)
//! ```

use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_store_mvcc::Image;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::disk::{self, Disk, DiskCursor};
use super::meta::replace;
use super::sessions::Sessions;
use super::types::SnapshotMeta;

#[cfg(any(test, feature = "fuzz"))]
pub(super) mod hostile;

const MAGIC: &[u8; 8] = b"ISTHSNP2";
const HEAD: usize = 20;
/// Where a snapshot from another replica is received.
const INCOMING: &str = "incoming.tmp";

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{path:?} cannot be read or written")]
    Io { path: PathBuf, source: io::Error },
    #[error("snapshot {path:?} is damaged: {reason}. Restore this replica from another one, or from a backup")]
    Damaged { path: PathBuf, reason: String },
}

/// Everything that the log up to a point has led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) cluster_id: u64,
    pub(crate) sessions: Sessions,
    pub(crate) image: Image,
}

#[derive(Clone, Debug)]
pub(crate) struct SnapshotDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// What the newest file is about, so that it need not be read for that. Written by whoever wrote or read the file.
    newest: Arc<Mutex<Option<(PathBuf, SnapshotMeta)>>>,
    saved: watch::Sender<Saved>,
}

/// For those who must not let the log go before there is a snapshot of it.
#[derive(Clone, Copy, Debug, Default)]
struct Saved {
    /// The last entry that a snapshot on disk covers.
    upto: Option<u64>,
    /// One could not be stored.
    is_broken: bool,
}

impl SnapshotDir {
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, SnapshotError> {
        let at = |source| SnapshotError::Io { path: dir.clone(), source };
        disk.create_dir(&dir).map_err(at)?;
        for path in disk.list(&dir).map_err(at)? {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                disk.remove(&path).map_err(at)?;
            }
        }
        Ok(Self { disk, dir, newest: Arc::default(), saved: watch::Sender::default() })
    }

    /// The newest snapshot. A damaged one is an error, never skipped: the log before it is gone.
    pub(crate) fn load(&self) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(path) = self.newest()? else { return Ok(None) };
        let snapshot = self.read(&path)?;
        self.note_saved(&snapshot.meta);
        *self.newest.lock() = Some((path, snapshot.meta.clone()));
        Ok(Some(snapshot))
    }

    /// The newest snapshot's file, and what it is about.
    pub(crate) fn newest_meta(&self) -> Result<Option<(PathBuf, SnapshotMeta)>, SnapshotError> {
        if self.newest.lock().is_none() {
            self.load()?;
        }
        Ok(self.newest.lock().clone())
    }

    pub(crate) fn newest(&self) -> Result<Option<PathBuf>, SnapshotError> {
        Ok(self.files()?.pop())
    }

    /// Stores a snapshot and removes older ones.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> Result<PathBuf, SnapshotError> {
        let index = snapshot.meta.last_log_id.map_or(0, |last| last.index);
        let path = self.dir.join(format!("{index:020}.snap"));
        replace(&*self.disk, &path, |file| write(file, snapshot))
            .map_err(|source| SnapshotError::Io { path: path.clone(), source })?;
        *self.newest.lock() = Some((path.clone(), snapshot.meta.clone()));
        self.note_saved(&snapshot.meta);
        for older in self.files()?.into_iter().filter(|file| *file < path) {
            self.disk.remove(&older).map_err(|source| SnapshotError::Io { path: older, source })?;
        }
        Ok(path)
    }

    fn note_saved(&self, meta: &SnapshotMeta) {
        let index = meta.last_log_id.map(|last| last.index);
        self.saved.send_modify(|saved| saved.upto = saved.upto.max(index));
    }

    /// Whoever waits for a snapshot waits in vain.
    pub(crate) fn give_up(&self) {
        self.saved.send_modify(|saved| saved.is_broken = true);
    }

    /// Waits until a snapshot on disk covers an entry.
    pub(crate) async fn covers(&self, index: u64) -> io::Result<()> {
        let mut saved = self.saved.subscribe();
        let seen = saved.wait_for(|saved| saved.upto >= Some(index) || saved.is_broken).await;
        match seen.map(|saved| *saved) {
            Ok(saved) if saved.upto >= Some(index) => Ok(()),
            _ => Err(io::Error::other(format!("the snapshot that covers entry {index} could not be stored"))),
        }
    }

    /// A new empty file that has no name and goes when it is closed, for what leaves this replica. It is no part of what the
    /// replica stores, so it is made on the machine's own disk.
    pub(crate) fn unnamed(&self) -> io::Result<std::fs::File> {
        let path = self.dir.join(format!("unnamed-{:016x}.tmp", rand::random::<u64>()));
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    /// A new empty file for a snapshot that another replica sends.
    pub(crate) fn incoming(&self) -> io::Result<DiskCursor> {
        self.disk.create(&self.dir.join(INCOMING)).map(DiskCursor::new)
    }

    pub(crate) fn file(&self, path: &Path) -> io::Result<DiskCursor> {
        self.disk.open(path).map(DiskCursor::new)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Bytes of the newest snapshot.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let newest = self.newest().ok().flatten();
        newest.and_then(|path| self.disk.open(&path).and_then(|file| file.size()).ok()).unwrap_or(0)
    }

    fn read(&self, path: &Path) -> Result<Snapshot, SnapshotError> {
        let at = |source| SnapshotError::Io { path: path.to_path_buf(), source };
        let bytes = disk::read_all(&*self.disk, path).map_err(at)?;
        parse(&bytes).map_err(|reason| SnapshotError::Damaged { path: path.to_path_buf(), reason })
    }

    fn files(&self) -> Result<Vec<PathBuf>, SnapshotError> {
        let at = |source| SnapshotError::Io { path: self.dir.clone(), source };
        let mut files = Vec::new();
        for path in self.disk.list(&self.dir).map_err(at)? {
            if path.extension().is_some_and(|extension| extension == "snap") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

fn write(file: &mut DiskCursor, snapshot: &Snapshot) -> io::Result<()> {
    file.write_all(&[0; HEAD])?;
    let mut body = Body { out: BufWriter::with_capacity(1 << 18, &mut *file), crc: crc32fast::Hasher::new(), len: 0 };
    postcard::to_io(snapshot, &mut body).map_err(io::Error::other)?;
    body.flush()?;
    let (crc, len) = (body.crc.clone().finalize(), body.len);
    drop(body);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(MAGIC)?;
    file.write_all(&len.to_le_bytes())?;
    file.write_all(&crc.to_le_bytes())
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Snapshot, String> {
    let snapshot: Snapshot = postcard::from_bytes(check(bytes)?).map_err(|error| error.to_string())?;
    if snapshot.image.can_go_on() { Ok(snapshot) } else { Err("its numbers are at their end".to_owned()) }
}

/// The body of a snapshot that is whole.
pub(crate) fn check(bytes: &[u8]) -> Result<&[u8], String> {
    let (head, body) = bytes.split_at_checked(HEAD).ok_or("it is too short")?;
    if &head[..8] != MAGIC {
        return Err("it does not start as a snapshot does".to_owned());
    }
    let len = head[8..16].iter().rev().fold(0_u64, |len, byte| len << 8 | u64::from(*byte));
    if len != body.len() as u64 {
        return Err(format!("it should have {len} bytes and has {}", body.len()));
    }
    if crc32fast::hash(body).to_le_bytes() != head[16..] {
        return Err("its checksum does not match".to_owned());
    }
    Ok(body)
}

/// Counts and checks what is written, so that the head can be filled in afterwards.
struct Body<W: Write> {
    out: W,
    crc: crc32fast::Hasher,
    len: u64,
}

impl<W: Write> Write for Body<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.crc.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
