//! The durable log as files: numbered segments, entries found by index, one `fdatasync` for each batch of entries.
//!
//! It owns the folder `log/`. It knows nothing of Raft: an entry is an index and bytes. It must never report an entry as
//! written before the sync has returned, and never sync again after a sync has failed (the kernel may have dropped the
//! pages): the first failure poisons it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

#[cfg(any(test, feature = "fuzz"))]
pub(super) mod hostile;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use super::disk::Disk;
use segment::Segment;

/// The log on disk cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error(
        "log file {path:?} is damaged at byte {offset}: entry {index} was acknowledged and cannot be read (entry {later} \
         behind it can). Restore this replica from another one, or from a backup"
    )]
    Record { path: PathBuf, offset: usize, index: u64, later: u64 },
    #[error(
        "log file {path:?} starts at entry {found} where entry {expected} was expected: a file is missing or damaged"
    )]
    Gap { path: PathBuf, expected: u64, found: u64 },
    #[error("log file {path:?} cannot be read")]
    Io { path: PathBuf, source: io::Error },
}

#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    offset: u64,
    len: u32,
}

/// # Invariants
/// `places[i]` is where entry `first + i` lies; segments are in order of their numbers and hold no other live entries.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    first: u64,
    places: VecDeque<Place>,
    spare: Option<Spare>,
    buffer: Vec<u8>,
    poisoned: bool,
}

#[derive(Debug)]
enum Spare {
    Ready(PathBuf),
    Preparing(JoinHandle<io::Result<PathBuf>>),
}

const SPARE: &str = "spare.tmp";

impl Log {
    /// Opens or creates the log. Entries below `first_wanted` count as purged.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64, first_wanted: u64) -> Result<Self, Damage> {
        let at = |source| Damage::Io { path: dir.to_path_buf(), source };
        disk.create_dir(dir).map_err(at)?;
        let mut log = Self {
            disk,
            dir: dir.to_path_buf(),
            segment_bytes,
            segments: VecDeque::new(),
            first: first_wanted,
            places: VecDeque::new(),
            spare: None,
            buffer: Vec::new(),
            poisoned: false,
        };
        let mut numbers = Vec::new();
        for path in log.disk.list(dir).map_err(at)? {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
            match (path.extension().and_then(|extension| extension.to_str()), number) {
                (Some("log"), Some(number)) => numbers.push((number, path)),
                // A spare that was being made; whether it is complete is not known.
                (Some("tmp"), _) => log.disk.remove(&path).map_err(at)?,
                _ => {}
            }
        }
        numbers.sort();
        for (number, path) in numbers {
            log.recover(number, path, first_wanted)?;
        }
        if log.segments.is_empty() {
            log.rotate(0).map_err(at)?;
        }
        log.prepare_spare();
        Ok(log)
    }

    fn recover(&mut self, number: u64, path: PathBuf, first_wanted: u64) -> Result<(), Damage> {
        let mut segment = Segment::open(&*self.disk, path.clone(), number)
            .map_err(|source| Damage::Io { path: path.clone(), source })?;
        let expected = (!self.places.is_empty()).then(|| self.next());
        let found = segment.scan(expected.unwrap_or(first_wanted))?;
        if let Some((index, ..)) = found.entries.first().copied() {
            if let Some(expected) = expected.filter(|expected| *expected != index) {
                return Err(Damage::Gap { path, expected, found: index });
            }
            if self.places.is_empty() && index > first_wanted {
                return Err(Damage::Gap { path, expected: first_wanted, found: index });
            }
        }
        for (index, offset, len) in found.entries {
            if index >= first_wanted {
                self.places.push_back(Place { segment: number, offset, len });
            }
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// The index after the last entry.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// The index of the first entry that is kept, if any is.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes on disk, spare files left out.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::size).sum()
    }

    /// Bytes of the entries from `index` on.
    pub(crate) fn bytes_from(&self, index: u64) -> u64 {
        let skip = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.places.iter().skip(skip).map(|place| u64::from(place.len)).sum()
    }

    /// The entries from the answer on, up to and including `last`, take no more than `bytes`.
    pub(crate) fn last_within(&self, last: u64, bytes: u64) -> u64 {
        let kept = usize::try_from((last + 1).saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.places.len());
        let mut left = bytes;
        let mut from = self.first + kept as u64;
        for place in self.places.range(..kept).rev() {
            let Some(rest) = left.checked_sub(u64::from(place.len)) else { break };
            left = rest;
            from -= 1;
        }
        from
    }

    /// Appends consecutive entries and makes them durable with one sync. Each payload is written by its `write`.
    pub(crate) fn append<W>(&mut self, entries: impl IntoIterator<Item = (u64, W)>) -> io::Result<()>
    where
        W: FnOnce(&mut Vec<u8>) -> io::Result<()>,
    {
        self.check()?;
        let result = self.try_append(entries);
        self.poisoned |= result.is_err();
        result
    }

    fn try_append<W>(&mut self, entries: impl IntoIterator<Item = (u64, W)>) -> io::Result<()>
    where
        W: FnOnce(&mut Vec<u8>) -> io::Result<()>,
    {
        let mut payloads = Vec::new();
        let mut scratch = Vec::new();
        for (index, write) in entries {
            let start = scratch.len();
            write(&mut scratch)?;
            payloads.push((index, start..scratch.len()));
        }
        let Some((first, _)) = payloads.first() else { return Ok(()) };
        if self.places.is_empty() {
            self.first = *first;
        } else if *first != self.next() {
            let message = format!("entry {first} would leave a hole in the log, which ends before {}", self.next());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let needed: usize =
            payloads.iter().map(|(_, payload)| (record::HEADER + payload.len()).next_multiple_of(record::ALIGN)).sum();
        let (first, count) = (*first, payloads.len() as u64);
        let fits = |segment: &Segment| segment.room() >= needed as u64 && segment.next.is_none_or(|next| next == first);
        if !self.segments.back().is_some_and(fits) {
            self.rotate(needed as u64)?;
        }
        let segment = self.segments.back_mut().expect("rotating leaves a segment to write to");
        self.buffer.clear();
        for (index, payload) in payloads {
            let place = record::encode(&mut self.buffer, segment.number, index, first, |out| {
                out.extend_from_slice(&scratch[payload]);
                Ok::<_, io::Error>(())
            })?;
            let len = u32::try_from(place.len()).map_err(io::Error::other)?;
            let offset = segment.tail + place.start as u64;
            self.places.push_back(Place { segment: segment.number, offset, len });
        }
        segment.append(&self.buffer)?;
        segment.next = Some(first + count);
        Ok(())
    }

    /// The payloads of a range of entries, as far as they are there.
    pub(crate) fn read(&self, from: u64, until: u64) -> io::Result<Vec<Vec<u8>>> {
        let from = from.max(self.first);
        let until = until.min(self.next());
        (from..until)
            .map(|index| {
                let place = self.places[usize::try_from(index - self.first).map_err(io::Error::other)?];
                let segment = self.segments.iter().find(|segment| segment.number == place.segment);
                let segment = segment.ok_or_else(|| io::Error::other(format!("segment {} is gone", place.segment)))?;
                segment.read(place.offset, place.len)
            })
            .collect()
    }

    /// Removes every entry at or above `index`, durably.
    pub(crate) fn truncate(&mut self, index: u64) -> io::Result<()> {
        self.check()?;
        if index >= self.next() {
            return Ok(());
        }
        let keep = usize::try_from(index.saturating_sub(self.first)).map_err(io::Error::other)?;
        let cut = self.places[keep];
        self.poisoned = true;
        // Newest first: a crash on the way leaves a log that merely ends later.
        while self.segments.back().is_some_and(|segment| segment.number > cut.segment) {
            let segment = self.segments.pop_back().expect("just looked at");
            self.disk.remove(segment.path())?;
        }
        self.disk.sync_dir(&self.dir)?;
        let segment = self.segments.back_mut().expect("the segment of a live entry is kept");
        segment.wipe_from(cut.offset - record::HEADER as u64)?;
        segment.next = Some(index);
        self.places.truncate(keep);
        self.poisoned = false;
        Ok(())
    }

    /// Forgets every entry at or below `index`. The caller has made it durable elsewhere that they are not needed.
    pub(crate) fn purge(&mut self, index: u64) -> io::Result<()> {
        self.check()?;
        let drop = usize::try_from((index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.places.drain(..drop.min(self.places.len()));
        self.first = self.first.max(index + 1);
        let oldest = self.places.front().map(|place| place.segment);
        // The segment being written to stays even when nothing in it is wanted any more.
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| oldest.is_none_or(|o| s.number < o)) {
            let segment = self.segments.pop_front().expect("just looked at");
            self.recycle(&segment)?;
        }
        Ok(())
    }

    fn recycle(&mut self, segment: &Segment) -> io::Result<()> {
        let spare = self.dir.join(SPARE);
        if self.spare.is_none() && segment.size() == self.segment_bytes {
            self.disk.rename(segment.path(), &spare)?;
            self.spare = Some(Spare::Ready(spare));
            return Ok(());
        }
        self.disk.remove(segment.path())
    }

    /// Starts a new segment with room for `needed` bytes at least.
    fn rotate(&mut self, needed: u64) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        let prepared = if needed <= self.segment_bytes { self.take_spare()? } else { None };
        let prepared = if let Some(path) = prepared {
            path
        } else {
            let path = self.dir.join(format!("{number}.tmp"));
            segment::prepare(&*self.disk, &path, self.segment_bytes.max(needed))?;
            path
        };
        self.segments.push_back(Segment::adopt(&*self.disk, &prepared, &self.dir, number)?);
        self.prepare_spare();
        Ok(())
    }

    fn take_spare(&mut self) -> io::Result<Option<PathBuf>> {
        match self.spare.take() {
            None => Ok(None),
            Some(Spare::Ready(path)) => Ok(Some(path)),
            Some(Spare::Preparing(thread)) => match thread.join() {
                Ok(Ok(path)) => Ok(Some(path)),
                // There may have been no room then, and some now.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "no log file could be prepared in advance");
                    Ok(None)
                }
                Err(_) => Err(io::Error::other("the thread that prepares log files panicked")),
            },
        }
    }

    /// Fills the next file with zeros beside the writing, so that changing over costs a rename.
    fn prepare_spare(&mut self) {
        if self.spare.is_some() {
            return;
        }
        if !self.disk.may_block() {
            // Made when it is needed, which costs no time there.
            return;
        }
        let path = self.dir.join(SPARE);
        let (disk, size) = (Arc::clone(&self.disk), self.segment_bytes);
        let thread = std::thread::Builder::new().name("store-log-spare".to_owned()).spawn(move || {
            segment::prepare(&*disk, &path, size)?;
            Ok(path)
        });
        // Without a thread the file is made when it is needed.
        self.spare = thread.ok().map(Spare::Preparing);
    }

    fn check(&self) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other("an earlier write to the log failed; restart to find out what is on disk"));
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(Spare::Preparing(thread)) = self.spare.take() {
            // Only so that nothing writes into the folder any more; a failed spare is made again.
            drop(thread.join());
        }
    }
}
