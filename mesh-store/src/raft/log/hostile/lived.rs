//! A log that was used as a log is, and then damaged.

use std::path::PathBuf;

use super::super::{Log, record};
use super::{MOST, entries, open, write};
use crate::fuzz::Input;
use crate::raft::disk::Disk as _;
use crate::raft::disk::memory::MemoryDisk;

pub(super) fn run(input: Input<'_>) {
    let disk = MemoryDisk::default();
    let log = open(&disk, 0).unwrap();
    Life { disk, log, first: 0, entries: Vec::new(), last_batch: None }.live(input);
}

struct Life {
    disk: MemoryDisk,
    log: Log,
    first: u64,
    /// What was written from entry `first` on.
    entries: Vec<Vec<u8>>,
    /// The first entry of what was written last, unless something was cut since.
    last_batch: Option<u64>,
}

impl Life {
    fn live(mut self, mut input: Input<'_>) {
        for _ in 0..MOST {
            if input.is_empty() {
                break;
            }
            match input.byte() % 8 {
                0..4 => self.append(&mut input),
                4 => {
                    let keep = input.below(self.entries.len() + 1);
                    self.log.truncate(self.first + keep as u64).unwrap();
                    self.entries.truncate(keep);
                    self.last_batch = None;
                }
                5 if !self.entries.is_empty() => {
                    let purged = input.below(self.entries.len());
                    self.log.purge(self.first + purged as u64).unwrap();
                    self.entries.drain(..=purged);
                    self.first += purged as u64 + 1;
                }
                6 => {
                    self.log = open(&self.disk, self.first).expect("an undamaged log opens");
                }
                7 => return self.damage(&mut input),
                _ => {}
            }
            assert_eq!(entries(&self.log), self.entries);
        }
    }

    fn append(&mut self, input: &mut Input<'_>) {
        let next = self.first + self.entries.len() as u64;
        let count = 1 + input.below(4);
        for _ in 0..count {
            let (len, filler) = (1 + input.below(256), input.byte());
            self.entries.push(vec![filler; len]);
        }
        let batch = &self.entries[self.entries.len() - count..];
        self.log.append((next..).zip(batch.iter().map(|payload| write(payload)))).unwrap();
        self.last_batch = Some(next);
    }

    /// Damages one file in one place. The log ends somewhere, or is refused; nothing in it is made up.
    fn damage(self, input: &mut Input<'_>) {
        let torn_from = self.last_batch.and_then(|index| self.record_of(index));
        let place = input.below(self.log.segments.len());
        let path = self.log.segments[place].path().to_path_buf();
        let size = usize::try_from(self.log.segments[place].size()).unwrap();
        let at = (input.below(256) | input.below(256) << 8) % size;
        let what = input.byte() % 4;
        match what {
            0 => self.disk.edit(&path, |bytes| bytes[at..].fill(0)).unwrap(),
            1 => {
                let end = (at + 1 + input.below(64)).min(size);
                self.disk.edit(&path, |bytes| bytes[at..end].fill(0)).unwrap();
            }
            2 => {
                let bit = 1 << input.below(8);
                self.disk.edit(&path, |bytes| bytes[at] ^= bit).unwrap();
            }
            _ => self.disk.remove(&path).unwrap(),
        }
        let is_torn = what < 3 && torn_from.is_some_and(|(torn, from)| torn == path && at >= from);
        drop(self.log);
        match open(&self.disk, self.first) {
            Ok(log) => {
                let found = entries(&log);
                assert!(self.entries.starts_with(&found), "what was not written is there");
                assert!(found.is_empty() || log.first() == self.first);
                let before =
                    self.last_batch.map_or(0, |index| usize::try_from(index.saturating_sub(self.first)).unwrap_or(0));
                assert!(!is_torn || found.len() >= before, "a torn tail took what was acknowledged");
            }
            Err(refusal) => {
                assert!(!is_torn, "a torn tail stops the start: {refusal}");
                let again = open(&self.disk, self.first).expect_err("damage is not forgotten by asking twice");
                assert_eq!(again.to_string(), refusal.to_string());
            }
        }
    }

    /// The file of an entry, and where its record begins.
    fn record_of(&self, index: u64) -> Option<(PathBuf, usize)> {
        let place = self.log.places.get(usize::try_from(index.checked_sub(self.log.first)?).ok()?)?;
        let segment = self.log.segments.back().filter(|segment| segment.number == place.segment)?;
        Some((segment.path().to_path_buf(), usize::try_from(place.offset).ok()? - record::HEADER))
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let append = |sizes: &[u8]| -> Vec<u8> {
        let count = u8::try_from(sizes.len() - 1).unwrap_or(0);
        [0, count].into_iter().chain(sizes.iter().flat_map(|size| [*size, b'p'])).collect()
    };
    let many = || [append(&[20, 30]), append(&[200]), append(&[100, 7, 90]), append(&[250, 3])].concat();
    let damage = |file: u8, at: u8, what: u8, more: u8| vec![7, file, at, 0, what, more];
    vec![
        [vec![1], many(), vec![6], many(), vec![4, 5, 6]].concat(),
        [vec![1], many(), vec![5, 3, 6], many(), vec![5, 6], append(&[40])].concat(),
        [vec![1], many(), damage(0, 30, 2, 1)].concat(),
        [vec![1], append(&[9]), append(&[9, 9]), damage(0, 80, 0, 0)].concat(),
        [vec![1], many(), damage(1, 90, 1, 40)].concat(),
        [vec![1], many(), vec![5, 2], damage(0, 0, 3, 0)].concat(),
    ]
}
