use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::cluster as name;

struct State {
    folder: CaFolder,
    first: CaHash,
    _dir: tempfile::TempDir,
}

fn state() -> State {
    let dir = tempfile::tempdir().unwrap();
    let (folder, cas) = CaFolder::open(&dir.path().join("ca"), &name("a")).unwrap();
    State { folder, first: cas.current.hash(), _dir: dir }
}

#[test]
fn the_next_ca_has_another_key_and_the_same_uuid_and_moves_up_once() {
    let State { folder, first, _dir } = state();
    let uuid = folder.read().unwrap().current.uuid();
    let next = folder.make_next().unwrap();
    assert_ne!(next.hash(), first);
    let cas = folder.read().unwrap();
    assert_eq!((cas.current.hash(), cas.next.as_ref().unwrap().hash()), (first, next.hash()));
    assert_eq!(fs::metadata(folder.next_dir().join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);

    for _ in 0..2 {
        folder.promote(&next.hash()).unwrap();
        let cas = folder.read().unwrap();
        assert_eq!((cas.current.hash(), cas.current.uuid(), cas.next.is_none()), (next.hash(), uuid, true));
        assert!(!folder.next_dir().exists(), "the former key is gone");
    }
    let text = folder.promote(&first).unwrap_err().to_string();
    assert!(text.contains(&first.to_string()) && text.contains("abort the rotation"), "{text}");
}

#[test]
fn a_next_ca_that_is_not_wanted_leaves_the_current_one_alone() {
    let State { folder, first, _dir } = state();
    let leftover = folder.make_next().unwrap().hash();
    let next = folder.make_next().unwrap().hash();
    assert_ne!(next, leftover, "what was left of a rotation that never began is replaced");
    folder.discard_next(&leftover).unwrap();
    assert_eq!(folder.read().unwrap().next.unwrap().hash(), next, "another one's is left alone");
    for _ in 0..2 {
        folder.discard_next(&next).unwrap();
        let cas = folder.read().unwrap();
        assert_eq!((cas.current.hash(), cas.next.is_none()), (first, true));
    }
}

#[test]
fn a_promotion_that_was_killed_is_finished_by_whoever_reads_next() {
    let State { folder, first, _dir } = state();
    let next = folder.make_next().unwrap();
    // Killed between the two files.
    file::write_atomic(&folder.dir.join(CERTIFICATE_FILE), next.certificate_pem().as_bytes(), 0o644).unwrap();
    assert_eq!(folder.read().unwrap().current.hash(), next.hash());
    folder.promote(&next.hash()).unwrap();

    // Killed in the middle of removing the folder that it was in.
    folder.make_next().unwrap();
    fs::remove_file(folder.next_dir().join(KEY_FILE)).unwrap();
    let cas = folder.read().unwrap();
    assert_eq!((cas.current.hash(), cas.next.is_none()), (next.hash(), true));
    assert!(cas.of(&first).is_none());
}

#[test]
fn a_key_that_belongs_to_no_certificate_is_still_refused() {
    let State { folder, _dir, .. } = state();
    folder.make_next().unwrap();
    SecretKey::generate().unwrap().save(&folder.dir.join(KEY_FILE)).unwrap();
    assert!(matches!(folder.read(), Err(Error::Ca(root_ca::Error::OtherKey { .. }))));
}
