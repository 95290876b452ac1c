//! The quota's alarm, and the hash of the history.

use super::*;

const NO_SPACE: Alarm = Alarm { kind: AlarmKind::NoSpace, member_id: 1 };

fn alarm(action: AlarmAction) -> Command {
    Command::Alarm { action, alarm: NO_SPACE }
}

fn hash(state: &State, revision: i64) -> u32 {
    state.hash_kv(revision).unwrap().finish().hash
}

#[test]
fn a_full_store_takes_what_makes_it_smaller_and_is_let_free_by_the_disarm() {
    let mut state = filled(&["a", "b"]);
    let raised = Response::Alarm { revision: 3, alarm: Some(NO_SPACE) };
    assert_eq!(ok(&mut state, alarm(AlarmAction::Raise)), raised);
    assert_eq!(ok(&mut state, alarm(AlarmAction::Raise)), raised, "raising it again changes nothing");
    let mut state = State::restore(state.image());
    assert_eq!(state.alarms().collect::<Vec<_>>(), [NO_SPACE], "it outlives a restart");

    let may_put = txn(TxnRequest { failure: vec![TxnOp::Put(PutRequest::new("x", ""))], ..TxnRequest::default() });
    for larger in [put("c", "1"), may_put, Command::LeaseGrant { id: 1, ttl: 10 }] {
        assert_eq!(refusal(&mut state, larger), Error::NoSpace);
    }
    assert_eq!(Error::NoSpace.to_string(), "etcdserver: mvcc: database space exceeded");
    ok(&mut state, delete(KeyRange::single("a")));
    let delete_b = DeleteRangeRequest { range: KeyRange::single("b"), prev_kv: false };
    ok(&mut state, txn(TxnRequest { success: vec![TxnOp::DeleteRange(delete_b)], ..TxnRequest::default() }));
    ok(&mut state, Command::Compact { revision: 5 });
    assert_eq!(state.range(&RangeRequest::prefix("")).unwrap().count, 0, "reads are served");

    assert_eq!(ok(&mut state, alarm(AlarmAction::Disarm)), Response::Alarm { revision: 5, alarm: Some(NO_SPACE) });
    assert_eq!(ok(&mut state, alarm(AlarmAction::Disarm)), Response::Alarm { revision: 5, alarm: None });
    ok(&mut state, put("c", "1"));
}

#[test]
fn a_low_disk_is_noted_and_refuses_nothing() {
    let mut state = filled(&["a"]);
    let low = Alarm { kind: AlarmKind::LowDisk, member_id: 2 };
    ok(&mut state, Command::Alarm { action: AlarmAction::Raise, alarm: low });
    ok(&mut state, put("b", "1"));
    ok(&mut state, Command::LeaseGrant { id: 1, ttl: 10 });
    assert_eq!(State::restore(state.image()).alarms().collect::<Vec<_>>(), [low]);
}

#[test]
fn the_quota_admits_what_fits_and_whatever_adds_nothing() {
    let mut state = filled(&["a"]);
    let room = |bytes: usize| Quota { bytes: (state.bytes_in_use() + bytes) as u64 };
    // A key costs 256 bytes beside its own, in etcd's estimate.
    let command = put("b", "12345");
    assert!(!room(256 + 6).admits(state.bytes_in_use(), &command));
    assert!(room(256 + 7).admits(state.bytes_in_use(), &command));
    assert!(room(0).admits(state.bytes_in_use(), &delete(KeyRange::prefix(""))));
    assert!(room(0).admits(state.bytes_in_use(), &Command::Compact { revision: 1 }));
    let full = room(0);
    ok(&mut state, put("a", "2"));
    assert!(!full.admits(state.bytes_in_use(), &command), "history counts");
    ok(&mut state, delete(KeyRange::prefix("")));
    ok(&mut state, Command::Compact { revision: 4 });
    ok(&mut state, put("c", ""));
    ok(&mut state, Command::Compact { revision: 5 });
    assert!(Quota { bytes: full.bytes + 300 }.admits(state.bytes_in_use(), &command), "compaction gives room back");
}

#[test]
fn a_corrupt_replica_changes_nothing() {
    let mut state = filled(&["a"]);
    let corrupt = Alarm { kind: AlarmKind::Corrupt, member_id: 2 };
    ok(&mut state, Command::Alarm { action: AlarmAction::Raise, alarm: corrupt });
    assert_eq!(refusal(&mut state, delete(KeyRange::single("a"))), Error::Corrupt);
    ok(&mut state, Command::Alarm { action: AlarmAction::Disarm, alarm: corrupt });
    ok(&mut state, delete(KeyRange::single("a")));
}

#[test]
fn the_hash_is_of_the_kept_history_up_to_a_revision() {
    let mut state = filled(&["a", "b"]);
    let at_three = state.hash_kv(0).unwrap().finish();
    assert_eq!((at_three.compact_revision, at_three.hash_revision), (-1, 3));
    ok(&mut state, put("a", "2"));
    assert_eq!(hash(&state, 3), at_three.hash, "what comes later does not count");
    assert_ne!(hash(&state, 4), at_three.hash);
    assert_eq!(hash(&State::restore(state.image()), 0), hash(&state, 0));
    assert_eq!(state.hash_kv(5).unwrap_err(), Error::FutureRevision);
    ok(&mut state, Command::Compact { revision: 4 });
    assert_eq!(state.hash_kv(3).unwrap_err(), Error::Compacted { compact_revision: 4 });
    assert_eq!(state.hash_kv(0).unwrap().finish().compact_revision, 4);
}

/// The numbers are those of an etcd 3.6.16 that was asked the same.
#[test]
fn the_hash_is_etcds() {
    let mut state = State::default();
    assert_eq!(hash(&state, 0), 1_084_519_789);
    ok(&mut state, Command::LeaseGrant { id: 7, ttl: 600 });
    ok(&mut state, put("a", "1"));
    ok(&mut state, Command::Put(PutRequest { lease: 7, ..PutRequest::new("b", "two") }));
    ok(&mut state, put("a", ""));
    assert_eq!((hash(&state, 0), hash(&state, 3)), (475_284_563, 900_293_973));
    ok(&mut state, delete(KeyRange::single("b")));
    ok(&mut state, Command::Put(PutRequest::new("c", "x".repeat(300))));
    assert_eq!((hash(&state, 0), hash(&state, 4)), (711_301_061, 475_284_563));
    ok(&mut state, Command::Compact { revision: 4 });
    assert_eq!((hash(&state, 0), hash(&state, 5)), (291_442_669, 94_515_181));
    ok(&mut state, Command::Compact { revision: 5 });
    assert_eq!((hash(&state, 0), hash(&state, 6)), (1_530_546_814, 1_530_546_814));
    ok(&mut state, delete(KeyRange::all()));
    assert_eq!(hash(&state, 0), 3_695_587_121);
}

#[test]
fn attaching_costs_the_same_however_many_keys_the_lease_has() {
    let mut state = State::default();
    ok(&mut state, Command::LeaseGrant { id: 7, ttl: 60 });
    let mut attach = |n: u32| {
        let request = PutRequest { lease: 7, ..PutRequest::new(n.to_be_bytes().to_vec(), "") };
        ok(&mut state, Command::Put(request));
    };
    // An attachment that looks at every key would take hours here.
    for n in 0..100_000 {
        attach(n);
    }
    let keys = state.lease_keys(7).unwrap();
    assert_eq!(keys.len(), 100_000);
    assert!(keys.is_sorted());
    let applied = state.apply(Command::LeaseRevoke { id: 7 });
    assert!(applied.events.keys().is_sorted(), "replicas delete in the same order");
    assert_eq!(state.key_count(), 0);
}
