//! One file of the log: filled with zeros in advance, written front to back, and used again under another number.
//!
//! Writing into blocks that the file system has already given out keeps a sync to the data itself: neither the length of
//! the file nor its extents change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile};
use super::{Damage, record};

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    size: u64,
    /// Where the next record goes.
    pub(super) tail: u64,
    /// The index after its last record; `None` while it has none, and any may come.
    pub(super) next: Option<u64>,
}

/// What a segment was found to hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Index, and the place of the payload in the file.
    pub(super) entries: Vec<(u64, u64, u32)>,
}

impl Segment {
    /// Takes over a prepared file as segment `number`.
    pub(super) fn adopt(disk: &dyn Disk, prepared: &Path, dir: &Path, number: u64) -> io::Result<Self> {
        let path = file_name(dir, number);
        disk.rename(prepared, &path)?;
        disk.sync_dir(dir)?;
        Self::open(disk, path, number)
    }

    pub(super) fn open(disk: &dyn Disk, path: PathBuf, number: u64) -> io::Result<Self> {
        let file = disk.open(&path)?;
        let size = file.size()?;
        Ok(Self { number, file, path, size, tail: 0, next: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn room(&self) -> u64 {
        self.size.saturating_sub(self.tail)
    }

    /// Writes records at the tail and makes them durable with one sync.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.write_at(records, self.tail)?;
        self.file.sync_data()?;
        self.tail += records.len() as u64;
        self.size = self.size.max(self.tail);
        Ok(())
    }

    pub(super) fn read(&self, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; len as usize];
        self.file.read_at(&mut payload, offset)?;
        Ok(payload)
    }

    /// Forgets everything from `tail` on, durably.
    pub(super) fn wipe_from(&mut self, tail: u64) -> io::Result<()> {
        let mut at = tail;
        while at < self.size {
            let step = usize::try_from(self.size - at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file.write_at(&ZEROS[..step], at)?;
            at += step as u64;
        }
        self.file.sync_data()?;
        self.tail = tail;
        Ok(())
    }

    /// Finds the records and sets the tail behind the last. `hint` is the index that the first one should have.
    ///
    /// What follows the last sound record is a torn tail unless a later record shows that the missing one had been made
    /// durable before: that is damage, and nothing may be guessed.
    pub(super) fn scan(&mut self, hint: u64) -> Result<Scan, Damage> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX)];
        self.file.read_at(&mut bytes, 0).map_err(|source| Damage::Io { path: self.path.clone(), source })?;
        let mut scan = Scan::default();
        let mut tail = 0;
        while let Some(found) = record::decode(&bytes, tail, self.number) {
            if self.next.is_some_and(|next| next != found.index) {
                break;
            }
            let len = u32::try_from(found.payload.len()).unwrap_or(u32::MAX);
            scan.entries.push((found.index, found.payload.start as u64, len));
            self.next = Some(found.index + 1);
            tail = found.end;
        }
        let missing = self.next.unwrap_or(hint);
        if let Some(later) = find_later(&bytes, tail, self.number, missing) {
            return Err(Damage::Record { path: self.path.clone(), offset: tail, index: missing, later });
        }
        self.tail = tail as u64;
        if bytes[tail..].iter().any(|byte| *byte != 0) {
            // A leftover that ends up right behind a new record must not be read as its successor.
            self.wipe_from(tail as u64).map_err(|source| Damage::Io { path: self.path.clone(), source })?;
        }
        Ok(scan)
    }
}

/// A sound record behind `from` that was written when `missing` was durable already.
fn find_later(bytes: &[u8], from: usize, segment: u64, missing: u64) -> Option<u64> {
    (from..bytes.len().saturating_sub(record::HEADER))
        .step_by(record::ALIGN)
        .filter(|at| bytes[*at..at + 4] != [0; 4])
        .filter_map(|at| record::decode(bytes, at, segment))
        .find(|found| found.index > missing && found.durable > missing)
        .map(|found| found.index)
}

/// Makes a file of zeros whose blocks all exist; or none, so that what is left of a full disk is not lost to it.
pub(super) fn prepare(disk: &dyn Disk, path: &Path, size: u64) -> io::Result<()> {
    let filled = disk.create(path).and_then(|file| {
        let mut at = 0;
        while at < size {
            let step = usize::try_from(size - at).unwrap_or(usize::MAX).min(ZEROS.len());
            file.write_at(&ZEROS[..step], at)?;
            at += step as u64;
        }
        file.sync_all()
    });
    if filled.is_err() {
        drop(disk.remove(path));
    }
    filled
}

pub(super) fn file_name(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}
