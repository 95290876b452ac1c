//! What a replica needs of a disk, so that the same code runs on a real one and on a simulated one that loses what was not
//! synced.
//!
//! The operations are those of a POSIX file system, no more: whoever uses them knows what is durable when, not the disk.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

mod cursor;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod memory;

pub(crate) use cursor::DiskCursor;

pub trait Disk: Debug + Send + Sync + 'static {
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The files of a folder, by their full paths.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// A new empty file, also in the place of an old one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Two files change names, in one step. Not every file system can.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes durable which files the folder has.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes a lock that ends when it is dropped; `None` if somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;
    /// Bytes that can still be written below a folder.
    fn free(&self, dir: &Path) -> io::Result<u64>;
    /// False for a disk that answers at once: then nothing is done in threads, and the runtime's clock may be simulated too.
    fn may_block(&self) -> bool;
}

/// An open file. Several may be open on the same one.
pub trait DiskFile: Debug + Send + Sync {
    fn size(&self) -> io::Result<u64>;
    /// Fills the whole buffer, or fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the contents and the length durable.
    fn sync_all(&self) -> io::Result<()>;
}

pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Does work that may wait for the disk, beside the runtime's own threads if it may.
pub(crate) async fn work<T: Send + 'static>(
    disk: &dyn Disk,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if disk.may_block() { tokio::task::spawn_blocking(work).await.map_err(io::Error::other)? } else { work() }
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|file| Ok(file?.path())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let file = File::create(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let fs = nix::sys::statvfs::statvfs(dir)?;
        Ok(fs.blocks_available().saturating_mul(fs.fragment_size()))
    }

    fn may_block(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
