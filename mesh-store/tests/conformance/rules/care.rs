//! Alarms, hash, backup.

use futures::StreamExt as _;
use mesh_store::mvcc::{
    Alarm, AlarmAction, AlarmKind, DeleteRangeRequest, Error as Refusal, PutRequest, RangeRequest, TxnRequest,
};

use super::{Case, refusal};

pub(super) async fn an_alarm_refuses_what_makes_the_store_larger_and_can_be_disarmed(case: Case) {
    case.put("k", "1").await;
    let full = Alarm { kind: AlarmKind::NoSpace, member_id: case.store.identity().member_id };
    assert_eq!(case.store.alarms(true).await.unwrap(), []);
    assert_eq!(case.store.set_alarm(AlarmAction::Raise, full).await.unwrap(), Some(full));
    assert_eq!(case.store.alarms(true).await.unwrap(), [full]);
    assert_eq!(refusal(case.store.put(PutRequest::new(case.key("k"), "2")).await), Refusal::NoSpace);
    assert_eq!(refusal(case.store.lease_grant(0, 60).await), Refusal::NoSpace);
    // Reading and making room go on.
    case.store.range(RangeRequest::get(case.key("k"))).await.unwrap();
    case.store.txn(TxnRequest::default()).await.unwrap();
    case.store.delete_range(DeleteRangeRequest::key(case.key("k"))).await.unwrap();
    assert_eq!(case.store.set_alarm(AlarmAction::Disarm, full).await.unwrap(), Some(full));
    assert_eq!(case.store.set_alarm(AlarmAction::Disarm, full).await.unwrap(), None);
    case.put("k", "3").await;
}

pub(super) async fn the_hash_follows_the_history(case: Case) {
    let first = case.put("k", "1").await;
    let one = case.store.hash_kv(first).await.unwrap();
    assert_eq!((one.hash_revision, one.revision), (first, first));
    case.put("k", "2").await;
    let again = case.store.hash_kv(first).await.unwrap();
    assert_eq!((again.hash, again.hash_revision), (one.hash, first), "a revision's hash stays");
    assert_ne!(case.store.hash_kv(0).await.unwrap().hash, one.hash);
    assert_eq!(refusal(case.store.hash_kv(first + 100).await), Refusal::FutureRevision);
}

pub(super) async fn a_backup_counts_down_to_its_end(case: Case) {
    case.put("k", &"v".repeat(500_000)).await;
    let mut backup = case.store.backup().await.unwrap();
    let (mut total, mut remaining) = (0, None);
    while let Some(chunk) = backup.chunks.next().await {
        let chunk = chunk.unwrap();
        if let Some(before) = remaining {
            assert!(before >= chunk.remaining, "{before}, then {}", chunk.remaining);
        }
        total += chunk.data.len();
        remaining = Some(chunk.remaining);
    }
    assert_eq!(remaining, Some(0));
    assert!(total > 500_000, "{total}");
}
