//! Files put together from records with a right checksum and from rubbish.

use std::path::Path;

use super::super::{Log, record, segment};
use super::{DIR, MOST, entries, open, write};
use crate::fuzz::Input;
use crate::raft::disk::memory::MemoryDisk;

pub(super) fn run(mut input: Input<'_>) {
    let disk = MemoryDisk::default();
    let first_wanted = u64::from(input.byte() % 8);
    let (mut number, mut file) = (1, Vec::new());
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        match input.byte() % 6 {
            0 => {
                let (index, durable) = (u64::from(input.byte()), u64::from(input.byte()));
                record(&mut file, number, index, durable, &mut input);
            }
            1 => {
                let (index, durable) = (input.number(), input.number());
                record(&mut file, number, index, durable, &mut input);
            }
            2 => {
                let len = input.below(64);
                file.extend_from_slice(input.piece(len));
            }
            3 => file.resize(file.len() + record::ALIGN * input.below(32), 0),
            4 => {
                disk.put(segment::file_name(Path::new(DIR), number), std::mem::take(&mut file));
                number += 1 + u64::from(input.is_one_in(4));
            }
            _ => {
                // What a file held in its earlier life.
                let (index, durable) = (u64::from(input.byte()), u64::from(input.byte()));
                record(&mut file, number - 1, index, durable, &mut input);
            }
        }
    }
    disk.put(segment::file_name(Path::new(DIR), number), file);
    if let Ok(log) = open(&disk, first_wanted) {
        assert_usable(&disk, log, first_wanted);
    }
}

fn record(file: &mut Vec<u8>, segment: u64, index: u64, durable: u64, input: &mut Input<'_>) {
    let len = input.below(40);
    let payload = input.piece(len);
    record::encode(file, segment, index, durable, write(payload)).unwrap();
}

fn assert_usable(disk: &MemoryDisk, mut log: Log, first_wanted: u64) {
    let mut held = entries(&log);
    assert!(log.first() >= first_wanted);
    let first = log.first();
    held.push(b"the next".to_vec());
    log.append([(log.next(), write(b"the next"))]).unwrap();
    assert_eq!(entries(&log), held);
    drop(log);

    let mut log = open(disk, first_wanted).expect("what was opened and written to can be opened again");
    assert_eq!((log.first(), entries(&log)), (first, held.clone()));
    let middle = held.len() / 2;
    held.truncate(middle);
    log.truncate(first + middle as u64).unwrap();
    drop(log);

    let mut log = open(disk, first_wanted).expect("a log that was cut can be opened");
    assert_eq!(entries(&log), held);
    if !held.is_empty() {
        log.purge(log.first()).unwrap();
        drop(log);
        let log = open(disk, first + 1).expect("a log that was purged can be opened");
        assert_eq!(entries(&log), held[1..]);
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let record = |index: u8, durable: u8| [&[0, index, durable, 5][..], b"entry"].concat();
    let long = |index: u64| [&[1][..], &index.to_le_bytes(), &index.to_le_bytes(), &[3], b"far"].concat();
    let next_file = vec![4, 0];
    let zeros = vec![3, 2];
    let start = |wanted: u8| vec![0, wanted];
    vec![
        [start(0), record(0, 0), record(1, 1), record(2, 1), zeros.clone()].concat(),
        [start(0), record(0, 0), next_file.clone(), record(1, 1), zeros.clone(), record(3, 1)].concat(),
        [start(3), record(2, 2), record(3, 2), next_file, record(4, 4), vec![2, 4, 9, 9, 9, 9]].concat(),
        [start(0), long(1 << 40), long((1 << 40) + 1), zeros, vec![5, 9, 9, 2, 7, 7]].concat(),
    ]
}
