//! A disk in memory that keeps what was synced, and of the rest what chance leaves.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_store::{Disk, DiskFile};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;

#[derive(Debug, Default)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the crashes: what was opened before one is of no use after it.
    epoch: u64,
    names: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
}

#[derive(Debug, Default)]
struct Inode {
    contents: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
}

impl Inode {
    fn write(contents: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        if contents.len() < at + bytes.len() {
            contents.resize(at + bytes.len(), 0);
        }
        contents[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn crash(&mut self, random: &mut StdRng) {
        for (at, bytes) in std::mem::take(&mut self.writes) {
            let reached = match random.random_range(0..3) {
                0 => 0,
                1 => bytes.len(),
                _ => random.random_range(0..=bytes.len()),
            };
            Self::write(&mut self.durable, at, &bytes[..reached]);
        }
        self.contents = self.durable.clone();
    }
}

impl SimDisk {
    /// The disk as the next run of the process sees it.
    pub(crate) fn mount(&self) -> Arc<dyn Disk> {
        let epoch = self.state.lock().epoch;
        Arc::new(Mounted { state: Arc::clone(&self.state), epoch })
    }

    /// Power is lost: nothing that was open can be used any more.
    pub(crate) fn crash(&self, random: &mut StdRng) {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.names = state.durable_names.clone();
        for inode in state.names.values() {
            inode.lock().crash(random);
        }
    }
}

#[derive(Debug)]
struct Mounted {
    state: Arc<Mutex<State>>,
    epoch: u64,
}

impl Mounted {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::other("the power was lost"));
        }
        work(&mut state)
    }

    fn file(&self, inode: Arc<Mutex<Inode>>) -> Arc<dyn DiskFile> {
        Arc::new(Open { disk: Self { state: Arc::clone(&self.state), epoch: self.epoch }, inode })
    }
}

impl Disk for Mounted {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.with(|state| Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = Arc::new(Mutex::new(Inode::default()));
        self.with(|state| {
            state.names.insert(path.to_owned(), Arc::clone(&inode));
            Ok(())
        })?;
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode =
            self.with(|state| state.names.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))?;
        Ok(self.file(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|state| {
            let inode = state.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            state.names.remove(path);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.with(|state| {
            let inside = |path: &PathBuf| path.parent() == Some(dir);
            state.durable_names.retain(|path, _| !inside(path));
            let now: Vec<_> = state.names.iter().filter(|(path, _)| inside(path)).collect();
            let now: Vec<_> = now.into_iter().map(|(path, inode)| (path.clone(), Arc::clone(inode))).collect();
            state.durable_names.extend(now);
            Ok(())
        })
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        // The epoch keeps earlier runs out.
        self.with(|_| Ok(Some(Box::new(()) as Box<dyn Any + Send + Sync>)))
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Open {
    disk: Mounted,
    inode: Arc<Mutex<Inode>>,
}

impl DiskFile for Open {
    fn size(&self) -> io::Result<u64> {
        self.disk.with(|_| Ok(self.inode.lock().contents.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.with(|_| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let inode = self.inode.lock();
            let found = inode.contents.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.with(|_| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let mut inode = self.inode.lock();
            Inode::write(&mut inode.contents, at, bytes);
            inode.writes.push((at, bytes.to_vec()));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.with(|_| {
            let mut inode = self.inode.lock();
            for (at, bytes) in std::mem::take(&mut inode.writes) {
                Inode::write(&mut inode.durable, at, &bytes);
            }
            Ok(())
        })
    }
}
