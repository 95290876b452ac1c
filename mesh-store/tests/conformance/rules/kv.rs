//! Reads, puts, deletes, compaction.

use std::time::Instant;

use mesh_store::backend::{Error, MemberError};
use mesh_store::mvcc::{
    DeleteRangeRequest, Error as Refusal, KeyRange, PutRequest, RangeRequest, SortOrder, SortTarget,
};

use super::{Case, DEADLINE, refusal};

pub(super) async fn a_put_makes_one_revision_and_counts_versions(case: Case) {
    let first = case.put("k", "1").await;
    let again = PutRequest { prev_kv: true, ..PutRequest::new(case.key("k"), "2") };
    let again = case.store.put(again).await.unwrap();
    assert_eq!(again.revision, first + 1);
    assert_eq!(&again.prev_kv.unwrap().value[..], b"1");
    let found = case.store.range(RangeRequest::get(case.key("k"))).await.unwrap();
    let kv = &found.kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (first, first + 1, 2, 0));
    assert_eq!((found.count, found.more, found.revision), (1, false, first + 1));
    // A new life begins at version 1.
    case.store.delete_range(DeleteRangeRequest::key(case.key("k"))).await.unwrap();
    let third = case.put("k", "3").await;
    let kv = case.store.range(RangeRequest::get(case.key("k"))).await.unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.version), (third, 1));
    assert_eq!(refusal(case.store.put(PutRequest::new("", "x")).await), Refusal::EmptyKey);
}

pub(super) async fn a_range_has_all_of_etcds_options(case: Case) {
    let mut revisions = Vec::new();
    for (key, value) in [("c", "1"), ("a", "3"), ("b", "2"), ("a", "0")] {
        revisions.push(case.put(key, value).await);
    }
    let all = || RangeRequest::prefix(case.prefix());
    let read = async |request: RangeRequest| {
        let found = case.store.range(request).await.unwrap();
        let keys: Vec<String> = found.kvs.iter().map(|kv| case.rest(&kv.key).to_owned()).collect();
        (keys.join(""), found.count, found.more)
    };
    let sorted = |target, order| RangeRequest { sort_target: target, sort_order: order, ..all() };
    let shown = |keys: &str, count, more| (keys.to_owned(), count, more);
    assert_eq!(read(all()).await, shown("abc", 3, false));
    assert_eq!(read(RangeRequest { limit: 2, ..all() }).await, shown("ab", 3, true));
    assert_eq!(read(RangeRequest { revision: revisions[1], ..all() }).await, shown("ac", 2, false));
    assert_eq!(read(RangeRequest { count_only: true, ..all() }).await, shown("", 3, false));
    // A serializable read may be answered by a replica that is behind, but not for ever.
    let started = Instant::now();
    while read(RangeRequest { serializable: true, ..all() }).await != shown("abc", 3, false) {
        assert!(started.elapsed() < DEADLINE, "every replica catches up");
    }
    assert_eq!(read(sorted(SortTarget::Key, SortOrder::Descend)).await.0, "cba");
    assert_eq!(read(sorted(SortTarget::Create, SortOrder::Ascend)).await.0, "cab");
    assert_eq!(read(sorted(SortTarget::Mod, SortOrder::Descend)).await.0, "abc");
    assert_eq!(read(sorted(SortTarget::Value, SortOrder::Ascend)).await.0, "acb");
    assert!(read(sorted(SortTarget::Version, SortOrder::Descend)).await.0.starts_with('a'), "put twice");
    let newest = RangeRequest { limit: 1, ..sorted(SortTarget::Create, SortOrder::Descend) };
    assert_eq!(read(newest).await, shown("b", 3, true));
    assert_eq!(read(RangeRequest { min_mod_revision: revisions[2], ..all() }).await.0, "ab");
    assert_eq!(read(RangeRequest { max_mod_revision: revisions[2], ..all() }).await.0, "bc");
    assert_eq!(read(RangeRequest { min_create_revision: revisions[1], ..all() }).await.0, "ab");
    assert_eq!(read(RangeRequest { max_create_revision: revisions[1], ..all() }).await.0, "ac");
    let from_b = RangeRequest { range: KeyRange::new(case.key("b"), case.key("d")), ..RangeRequest::default() };
    assert_eq!(read(from_b).await.0, "bc");
    let backwards = RangeRequest { range: KeyRange::new(case.key("c"), case.key("a")), ..RangeRequest::default() };
    assert_eq!(read(backwards).await, shown("", 0, false));
    let bare = case.store.range(RangeRequest { keys_only: true, ..all() }).await.unwrap();
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty() && kv.version > 0));
}

pub(super) async fn a_delete_says_what_it_deleted(case: Case) {
    for key in ["a", "b", "c"] {
        case.put(key, key).await;
    }
    let before = case.put("d", "d").await;
    let range = KeyRange::new(case.key("a"), case.key("c"));
    let deleted = case.store.delete_range(DeleteRangeRequest { range, prev_kv: true }).await.unwrap();
    assert_eq!((deleted.deleted, deleted.revision), (2, before + 1));
    let values: Vec<_> = deleted.prev_kvs.iter().map(|kv| &kv.value[..]).collect();
    assert_eq!(values, [b"a", b"b"]);
    let nothing = case.store.delete_range(DeleteRangeRequest::key(case.key("a"))).await.unwrap();
    assert_eq!((nothing.deleted, nothing.revision), (0, before + 1), "what changes nothing makes no revision");
    let left = case.store.range(RangeRequest::prefix(case.prefix())).await.unwrap();
    assert_eq!(left.count, 2);
}

pub(super) async fn a_put_may_keep_what_is_there(case: Case) {
    let lease = case.store.lease_grant(0, 600).await.unwrap().id;
    let absent = PutRequest { ignore_value: true, ..PutRequest::new(case.key("k"), "") };
    assert_eq!(refusal(case.store.put(absent).await), Refusal::KeyNotFound);
    let with_lease = PutRequest { lease, ..PutRequest::new(case.key("k"), "1") };
    case.store.put(with_lease).await.unwrap();
    let keep_lease = PutRequest { ignore_lease: true, ..PutRequest::new(case.key("k"), "2") };
    case.store.put(keep_lease).await.unwrap();
    let kv = case.store.range(RangeRequest::get(case.key("k"))).await.unwrap().kvs.remove(0);
    assert_eq!((&kv.value[..], kv.lease), (&b"2"[..], lease));
    let keep_value = PutRequest { ignore_value: true, ..PutRequest::new(case.key("k"), "") };
    case.store.put(keep_value).await.unwrap();
    let kv = case.store.range(RangeRequest::get(case.key("k"))).await.unwrap().kvs.remove(0);
    assert_eq!((&kv.value[..], kv.lease), (&b"2"[..], 0));
    let both = PutRequest { ignore_value: true, ..PutRequest::new(case.key("k"), "x") };
    assert_eq!(refusal(case.store.put(both).await), Refusal::ValueProvided);
    let both = PutRequest { ignore_lease: true, lease, ..PutRequest::new(case.key("k"), "x") };
    assert_eq!(refusal(case.store.put(both).await), Refusal::LeaseProvided);
    case.store.lease_revoke(lease).await.unwrap();
}

pub(super) async fn what_was_compacted_cannot_be_read(case: Case) {
    let first = case.put("k", "1").await;
    let second = case.put("k", "2").await;
    let third = case.put("k", "3").await;
    let at = |revision| RangeRequest { revision, ..RangeRequest::get(case.key("k")) };
    assert_eq!(&case.store.range(at(first)).await.unwrap().kvs[0].value[..], b"1");
    assert_eq!(case.store.compact(second).await.unwrap(), third);
    let gone = Refusal::Compacted { compact_revision: second };
    assert_eq!(refusal(case.store.range(at(first)).await), gone);
    assert_eq!(&case.store.range(at(second)).await.unwrap().kvs[0].value[..], b"2");
    assert_eq!(refusal(case.store.compact(second).await), gone);
    assert_eq!(refusal(case.store.compact(first).await), gone);
    assert_eq!(refusal(case.store.compact(third + 1).await), Refusal::FutureRevision);
    assert_eq!(refusal(case.store.range(at(third + 1)).await), Refusal::FutureRevision);
    assert_eq!(case.store.status().await.unwrap().compact_revision, second);
}

pub(super) async fn the_store_has_a_number_and_a_status(case: Case) {
    let before = case.store.status().await.unwrap();
    let revision = case.put("k", "1").await;
    let status = case.store.status().await.unwrap();
    assert_eq!((status.revision, status.keys), (revision, before.keys + 1));
    assert!(status.leader != 0 && !status.is_learner);
    assert!(case.store.revision() >= revision);
    let identity = case.store.identity();
    assert!(identity.cluster_id != 0 && identity.member_id != 0);
    assert_eq!(case.store.cluster_id(), identity.cluster_id);
}

pub(super) async fn members_are_listed_and_unknown_ones_are_said_so(case: Case) {
    let members = case.store.members(true).await.unwrap();
    assert!(members.is_sorted_by_key(|member| member.id) && members.iter().all(|member| member.id != 0));
    let leader = case.store.status().await.unwrap().leader;
    assert!(members.iter().any(|member| member.id == leader && !member.is_learner));
    let nobody = 4711;
    for refused in [case.store.member_remove(nobody).await, case.store.member_promote(nobody).await] {
        assert!(matches!(refused, Err(Error::Member(MemberError::NotFound))), "{refused:?}");
    }
    let refused = case.store.move_leader(nobody).await;
    assert!(refused.is_err(), "nobody cannot lead");
}
