//! Snapshots and backups from bytes that nobody meant. The first byte says what the rest is: a whole file, or the body of
//! one whose head and checksum are right, which a damaged disk cannot make and a faulty replica can.
#![allow(clippy::unwrap_used, reason = "a panic is how an input is reported")]

use std::path::Path;

use mesh_store_mvcc::{Command, DeleteRangeRequest, PutRequest, State};

use super::super::disk::memory::MemoryDisk;
use super::super::disk::{self, Disk as _, DiskCursor};
use super::super::replica::Replica;
use super::super::types::Ticket;
use super::{HEAD, MAGIC, Snapshot, parse, write};
use crate::backup;
use crate::fuzz::{Input, assert_whole};
use crate::metrics::Metrics;

const FILE: &str = "file";

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte() % 4;
    let rest = input.rest();
    match kind {
        0 => install(parse(rest).ok()),
        1 => install(parse(&with_head(rest)).ok()),
        2 => restore(rest),
        _ => restore(&backup::with_checksum(rest)),
    }
}

fn install(snapshot: Option<Snapshot>) {
    let Some(mut snapshot) = snapshot else { return };
    assert_eq!(parse(&written(&snapshot)).unwrap().image, snapshot.image, "a snapshot is read as it was written");
    let ticket = Ticket { replica: 1, boot: 1, seq: 1, answered: 1 };
    snapshot.sessions.admit(&ticket);
    assert!(!snapshot.sessions.admit(&ticket), "a part is executed once, whatever was remembered before");
    goes_on(State::restore(snapshot.image.clone()));
    Replica::new(1, 1, Metrics::detached()).restore(snapshot);
}

fn restore(file: &[u8]) {
    let Ok((head, image)) = backup::parse(Path::new(FILE), file) else { return };
    let state = State::restore(image);
    assert_eq!((head.revision, head.keys), (state.revision(), state.key_count() as u64));
    goes_on(state);
}

/// A state that was read can be used like any other.
fn goes_on(mut state: State) {
    assert_whole(&state);
    let put = |key: &'static str| Command::Put(PutRequest::new(key, "v"));
    let lease = state.leases().next().map_or(0, |(id, _)| id);
    for command in [
        Command::LeaseGrant { id: 0, ttl: 5 },
        put("a"),
        put("a"),
        Command::LeaseRevoke { id: lease },
        Command::DeleteRange(DeleteRangeRequest::prefix("")),
        put("b"),
        Command::Compact { revision: state.revision() },
    ] {
        drop(state.apply(command));
        assert_whole(&state);
    }
}

fn written(snapshot: &Snapshot) -> Vec<u8> {
    let disk = MemoryDisk::default();
    let mut file = DiskCursor::new(disk.create(Path::new(FILE)).unwrap());
    write(&mut file, snapshot).unwrap();
    disk::read_all(&disk, Path::new(FILE)).unwrap()
}

fn with_head(body: &[u8]) -> Vec<u8> {
    let crc = crc32fast::hash(body).to_le_bytes();
    [&MAGIC[..], &(body.len() as u64).to_le_bytes(), &crc, body].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut state = State::default();
    let empty = state.image();
    for command in [
        Command::LeaseGrant { id: 7, ttl: 30 },
        Command::Put(PutRequest { lease: 7, ..PutRequest::new("a/leased", "v") }),
        Command::Put(PutRequest::new("a", "1")),
        Command::Put(PutRequest::new("a", "2")),
        Command::Put(PutRequest::new("b", "1")),
        Command::Compact { revision: 3 },
        Command::DeleteRange(DeleteRangeRequest::key("b")),
    ] {
        state.apply(command).result.unwrap();
    }
    let mut seeds = Vec::new();
    for image in [empty, state.image()] {
        let mut snapshot = Replica::new(1, 1, Metrics::detached()).snapshot();
        snapshot.sessions.admit(&Ticket { replica: 1, boot: 2, seq: 3, answered: 3 });
        let snapshot = Snapshot { cluster_id: 9, image, ..snapshot };
        let file = written(&snapshot);
        seeds.push([&[1], &file[HEAD..]].concat());
        seeds.push([&[0], &file[..]].concat());
        let mut backup = Vec::new();
        backup::write(&mut backup, 9, &snapshot.image).unwrap();
        seeds.push([&[3], &backup[..backup.len() - backup::HASH]].concat());
        seeds.push([&[2], &backup[..]].concat());
    }
    seeds
}
