//! A disk in memory that forgets at a crash what was not synced.
//!
//! What is durable is what POSIX promises and no more: contents after `sync_data`, names after `sync_dir`. Of the rest a
//! crash keeps a part, in the order it was written, and tears the last write. A crash can be set to come in the middle of
//! what the replica writes next.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_store::{Disk, DiskFile};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Naming {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path, file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Exchange(one, other) => {
                if let (Some(first), Some(second)) = (names.get(&one).copied(), names.get(&other).copied()) {
                    names.insert(one, second);
                    names.insert(other, first);
                }
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Create(path, _) | Self::Rename(_, path) | Self::Exchange(_, path) | Self::Remove(path)) = self;
        path.parent() == Some(dir)
    }
}

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<u64, Contents>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced: Vec<Naming>,
    next: u64,
    /// How many more changes and syncs it will do.
    fuse: Option<u32>,
}

/// How long a strict disk takes to sync: so long that most crashes come in the middle.
const SYNC_TAKES: Duration = Duration::from_millis(10);

/// One run's view of a disk. After a crash the old view fails, and the next run gets a new one.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    dead: CancellationToken,
    is_strict: bool,
}

fn gone() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

impl SimDisk {
    /// A disk of which a crash leaves exactly what was synced, nothing else. It takes its time, and is used from threads, as a
    /// real one is.
    pub(crate) fn strict() -> Self {
        Self { is_strict: true, ..Self::default() }
    }

    /// What a crash could take.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.platter.lock().files.values().flat_map(|file| &file.unsynced).map(|(_, bytes)| bytes.len()).sum()
    }

    /// The machine will crash when so many more changes have been made.
    pub(crate) fn light_fuse(&self, changes: u32) {
        self.platter.lock().fuse = Some(changes);
    }

    /// The machine will not crash.
    pub(crate) fn pinch_fuse(&self) {
        self.platter.lock().fuse = None;
    }

    /// Set when the machine has crashed.
    pub(crate) fn dead(&self) -> CancellationToken {
        self.dead.clone()
    }

    /// What the next run finds.
    pub(crate) fn crash(&self, random: &mut StdRng) -> Self {
        self.dead.cancel();
        let mut platter = self.platter.lock();
        let mut names = std::mem::take(&mut platter.durable_names);
        let most = |unsynced: usize| if self.is_strict { 0 } else { unsynced };
        let kept = random.random_range(0..=most(platter.unsynced.len()));
        for naming in platter.unsynced.drain(..).take(kept) {
            naming.apply(&mut names);
        }
        let mut files = std::mem::take(&mut platter.files);
        files.retain(|id, _| names.values().any(|named| named == id));
        for contents in files.values_mut() {
            let kept = random.random_range(0..=most(contents.unsynced.len()));
            let torn = contents.unsynced.get(kept).map_or(0, |(_, bytes)| random.random_range(0..=most(bytes.len())));
            for (n, (offset, bytes)) in std::mem::take(&mut contents.unsynced).into_iter().enumerate().take(kept + 1) {
                let len = if n < kept { bytes.len() } else { torn };
                overwrite(&mut contents.durable, offset, &bytes[..len]);
            }
            contents.live.clone_from(&contents.durable);
        }
        let platter =
            Platter { files, names: names.clone(), durable_names: names, next: platter.next, ..Platter::default() };
        Self { platter: Arc::new(Mutex::new(platter)), dead: CancellationToken::new(), is_strict: self.is_strict }
    }

    /// What the next run finds when this one ended by itself: everything.
    pub(crate) fn handed_over(&self) -> Self {
        self.dead.cancel();
        let platter = std::mem::take(&mut *self.platter.lock());
        Self { platter: Arc::new(Mutex::new(platter)), dead: CancellationToken::new(), is_strict: self.is_strict }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        let mut platter = self.platter.lock();
        if self.dead.is_cancelled() {
            return Err(gone());
        }
        let changed = change(&mut platter)?;
        match &mut platter.fuse {
            // It is done, though nobody will hear of it.
            Some(0) => {
                self.dead.cancel();
                Err(gone())
            }
            Some(left) => {
                *left -= 1;
                Ok(changed)
            }
            None => Ok(changed),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Platter) -> Option<T>) -> io::Result<T> {
        if self.dead.is_cancelled() {
            return Err(gone());
        }
        look(&self.platter.lock()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&self, id: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), id })
    }
}

fn overwrite(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end && !bytes.is_empty() {
        target.resize(end, 0);
    }
    if let Some(place) = target.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.look(|platter| Some(platter.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.change(|platter| {
            platter.next += 1;
            let id = platter.next;
            platter.files.insert(id, Contents::default());
            let naming = Naming::Create(path.to_owned(), id);
            naming.clone().apply(&mut platter.names);
            platter.unsynced.push(naming);
            Ok(self.file(id))
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.look(|platter| platter.names.get(path).copied()).map(|id| self.file(id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|platter| {
            if !platter.names.contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let naming = Naming::Rename(from.to_owned(), to.to_owned());
            naming.clone().apply(&mut platter.names);
            platter.unsynced.push(naming);
            Ok(())
        })
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.change(|platter| {
            if !platter.names.contains_key(one) || !platter.names.contains_key(other) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let naming = Naming::Exchange(one.to_owned(), other.to_owned());
            naming.clone().apply(&mut platter.names);
            platter.unsynced.push(naming);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|platter| {
            if !platter.names.contains_key(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let naming = Naming::Remove(path.to_owned());
            naming.clone().apply(&mut platter.names);
            platter.unsynced.push(naming);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|platter| {
            let (synced, left) =
                std::mem::take(&mut platter.unsynced).into_iter().partition(|naming| naming.is_in(dir));
            platter.unsynced = left;
            let synced: Vec<Naming> = synced;
            for naming in synced {
                naming.apply(&mut platter.durable_names);
            }
            Ok(())
        })
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        // Each run has a view of its own, and only one of them is alive.
        Ok(Some(Box::new(())))
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn may_block(&self) -> bool {
        self.is_strict
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn change(&self, change: impl FnOnce(&mut Contents)) -> io::Result<()> {
        self.disk.change(|platter| {
            // A file that was removed lives on for those who have it open, and is of no interest here.
            change(platter.files.entry(self.id).or_default());
            Ok(())
        })
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.look(|platter| Some(platter.files.get(&self.id)?.live.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.look(|platter| {
            let offset = usize::try_from(offset).ok()?;
            let live = &platter.files.get(&self.id)?.live;
            live.get(offset..offset + buffer.len()).map(|bytes| buffer.copy_from_slice(bytes))
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(|contents| {
            overwrite(&mut contents.live, offset, bytes);
            contents.unsynced.push((offset, bytes.to_vec()));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.disk.is_strict {
            std::thread::sleep(SYNC_TAKES);
        }
        self.change(|contents| {
            for (offset, bytes) in contents.unsynced.drain(..) {
                overwrite(&mut contents.durable, offset, &bytes);
            }
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_crash_of_a_strict_disk_leaves_exactly_what_was_synced() {
        let disk = SimDisk::strict();
        let dir = Path::new("/d");
        let file = disk.create(&dir.join("a")).unwrap();
        file.write_at(b"kept", 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_at(b"lost", 4).unwrap();
        disk.create(&dir.join("b")).unwrap();
        assert_eq!(disk.unsynced_bytes(), 4);
        let after = disk.crash(&mut StdRng::seed_from_u64(1));
        assert_eq!(after.list(dir).unwrap(), [dir.join("a")]);
        assert_eq!(after.open(&dir.join("a")).unwrap().size().unwrap(), 4);
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_at_most_a_part_of_the_rest() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = SimDisk::default();
            let dir = Path::new("/d");
            let file = disk.create(&dir.join("a")).unwrap();
            file.write_at(b"kept", 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(dir).unwrap();
            file.write_at(b"torn", 4).unwrap();
            disk.rename(&dir.join("a"), &dir.join("b")).unwrap();
            let after = disk.crash(&mut StdRng::seed_from_u64(seed));
            assert!(file.write_at(b"late", 8).is_err());
            let names = after.list(dir).unwrap();
            assert_eq!(names.len(), 1);
            lost += usize::from(names[0] == dir.join("a"));
            let file = after.open(&names[0]).unwrap();
            let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
            file.read_at(&mut bytes, 0).unwrap();
            assert!(bytes.starts_with(b"kept") && b"kepttorn".starts_with(&bytes), "{bytes:?}");
        }
        assert!(lost > 5 && lost < 45, "{lost}");
    }
}
