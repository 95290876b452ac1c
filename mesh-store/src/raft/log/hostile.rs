//! The log reader on files that nobody meant. The first byte says which of two lives the files have had.
//!
//! *Made*: records with whatever index, and rubbish between them. What is opened can be used. *Lived*: a log that was
//! written, cut, purged and then damaged. What is opened holds the first of the entries that were written, and nothing else.
#![allow(clippy::unwrap_used, reason = "a panic is how an input is reported")]

mod lived;
mod made;

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Damage, Log};
use crate::fuzz::Input;
use crate::raft::disk::memory::MemoryDisk;

/// Small, so that a short input fills several.
const SEGMENT: u64 = 512;
const DIR: &str = "log";
/// More steps would only be slow.
const MOST: usize = 48;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte().is_multiple_of(2) { made::run(input) } else { lived::run(input) }
}

pub fn seeds() -> Vec<Vec<u8>> {
    [made::seeds(), lived::seeds()].concat()
}

fn open(disk: &MemoryDisk, first_wanted: u64) -> Result<Log, Damage> {
    Log::open(Arc::new(disk.clone()), Path::new(DIR), SEGMENT, first_wanted)
}

fn entries(log: &Log) -> Vec<Vec<u8>> {
    let entries = log.read(0, u64::MAX).unwrap();
    assert_eq!(log.first() + entries.len() as u64, log.next(), "every entry that is there can be read");
    entries
}

fn write(payload: &[u8]) -> impl FnOnce(&mut Vec<u8>) -> io::Result<()> + use<'_> {
    |out| {
        out.extend_from_slice(payload);
        Ok(())
    }
}
