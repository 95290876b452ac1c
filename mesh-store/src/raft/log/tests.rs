use std::fs;
use std::os::unix::fs::FileExt as _;

use super::super::disk::RealDisk;
use super::*;

const SEGMENT: u64 = 64 * 1024;

fn open(dir: &Path) -> Log {
    try_open(dir).unwrap()
}

fn try_open(dir: &Path) -> Result<Log, Damage> {
    Log::open(Arc::new(RealDisk), dir, SEGMENT, 0)
}

fn append(log: &mut Log, indexes: std::ops::Range<u64>) {
    log.append(indexes.map(|index| (index, write(index)))).unwrap();
}

fn write(index: u64) -> impl FnOnce(&mut Vec<u8>) -> io::Result<()> {
    move |out| {
        out.extend_from_slice(&payload(index));
        Ok(())
    }
}

fn payload(index: u64) -> Vec<u8> {
    let len = 20 + usize::try_from(index % 50).unwrap();
    index.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn assert_holds(log: &Log, indexes: std::ops::Range<u64>) {
    let expected: Vec<_> = indexes.clone().map(payload).collect();
    assert_eq!(log.read(0, u64::MAX).unwrap(), expected);
    assert_eq!(log.next(), indexes.end);
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

fn place(log: &Log, index: u64) -> Place {
    log.places[usize::try_from(index - log.first).unwrap()]
}

#[test]
fn entries_survive_reopening_over_several_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for start in (0..5000).step_by(10) {
        append(&mut log, start..start + 10);
    }
    assert!(log.segments.len() > 3);
    drop(log);
    let mut log = open(dir.path());
    assert_holds(&log, 0..5000);
    append(&mut log, 5000..5010);
    drop(log);
    assert_holds(&open(dir.path()), 0..5010);
}

#[test]
fn a_hole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 0..3);
    assert!(log.append([(4, write(4))]).is_err());
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let large = vec![7; 3 * usize::try_from(SEGMENT).unwrap()];
    log.append([(0, |out: &mut Vec<u8>| {
        out.extend_from_slice(&large);
        Ok(())
    })])
    .unwrap();
    append(&mut log, 1..3);
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.read(0, 1).unwrap(), vec![large]);
    assert_eq!(log.next(), 3);
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_tears() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 0..5);
    append(&mut log, 5..8);
    let torn = place(&log, 5);
    let end = log.segments[0].tail;
    drop(log);
    let path = &segment_files(dir.path())[0];
    let sound = fs::read(path).unwrap();
    let start = torn.offset - record::HEADER as u64;
    for cut in start..end {
        let mut bytes = sound.clone();
        bytes[usize::try_from(cut).unwrap()..].fill(0);
        fs::write(path, bytes).unwrap();
        let log = open(dir.path());
        assert!((5..=8).contains(&log.next()), "cut at {cut}: {}", log.next());
        assert_holds(&log, 0..log.next());
    }
}

#[test]
fn pages_of_a_torn_batch_that_arrived_out_of_order_do_not_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 0..5);
    append(&mut log, 5..8);
    let first = place(&log, 5);
    drop(log);
    let path = &segment_files(dir.path())[0];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0; 30], first.offset - record::HEADER as u64).unwrap();
    let mut log = open(dir.path());
    assert_holds(&log, 0..5);
    append(&mut log, 5..6);
    drop(log);
    assert_holds(&open(dir.path()), 0..6);
}

#[test]
fn damage_to_an_acknowledged_entry_is_reported_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 0..5);
    append(&mut log, 5..8);
    append(&mut log, 8..9);
    let middle = place(&log, 6);
    drop(log);
    let path = &segment_files(dir.path())[0];
    for offset in 0..record::HEADER as u64 + u64::from(middle.len) {
        let sound = fs::read(path).unwrap();
        let mut damaged = sound.clone();
        damaged[usize::try_from(middle.offset + offset).unwrap() - record::HEADER] ^= 0x55;
        fs::write(path, &damaged).unwrap();
        let error = try_open(dir.path()).unwrap_err();
        assert!(matches!(error, Damage::Record { index: 6, later: 8, .. }), "{error}");
        assert_eq!(fs::read(path).unwrap(), damaged);
        fs::write(path, &sound).unwrap();
    }
    assert_holds(&open(dir.path()), 0..9);
}

#[test]
fn a_missing_segment_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for start in (0..3000).step_by(10) {
        append(&mut log, start..start + 10);
    }
    drop(log);
    let files = segment_files(dir.path());
    fs::remove_file(&files[1]).unwrap();
    assert!(matches!(try_open(dir.path()).unwrap_err(), Damage::Gap { .. }));
    fs::remove_file(&files[0]).unwrap();
    assert!(
        matches!(try_open(dir.path()).unwrap_err(), Damage::Gap { expected: 0, .. }),
        "the first one is missed too"
    );
}

#[test]
fn truncation_is_durable_and_leaves_no_ghosts() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for start in (0..3000).step_by(10) {
        append(&mut log, start..start + 10);
    }
    log.truncate(123).unwrap();
    assert_holds(&log, 0..123);
    append(&mut log, 123..124);
    drop(log);
    assert_holds(&open(dir.path()), 0..124);
}

#[test]
fn purged_segments_are_used_again_and_their_old_records_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for start in (0..20_000).step_by(10) {
        append(&mut log, start..start + 10);
        if start >= 1000 {
            log.purge(start - 1000).unwrap();
        }
    }
    assert!(segment_files(dir.path()).len() < 4);
    drop(log);
    let log = Log::open(Arc::new(RealDisk), dir.path(), SEGMENT, 18_991).unwrap();
    assert_holds(&log, 18_991..20_000);
}

#[test]
fn purging_beyond_the_end_leaves_an_empty_log_that_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 0..10);
    log.purge(99).unwrap();
    assert!(log.is_empty());
    append(&mut log, 100..103);
    assert_holds(&log, 100..103);
    drop(log);
    let log = Log::open(Arc::new(RealDisk), dir.path(), SEGMENT, 100).unwrap();
    assert_holds(&log, 100..103);
}
