//! Leases.

use std::time::{Duration, Instant};

use mesh_store::backend::WatchRequest;
use mesh_store::mvcc::{Error as Refusal, EventKind, MAX_LEASE_TTL, PutRequest, RangeRequest};

use super::{Case, DEADLINE, events_until, refusal};

async fn leased(case: &Case, key: &str, lease: i64) -> i64 {
    let request = PutRequest { lease, ..PutRequest::new(case.key(key), "x") };
    case.store.put(request).await.unwrap().revision
}

pub(super) async fn a_revoked_lease_takes_its_keys_along(case: Case) {
    let started = Instant::now();
    let granted = case.store.lease_grant(0, 600).await.unwrap();
    assert!(granted.id != 0 && granted.ttl == 600);
    for key in ["b", "a"] {
        leased(&case, key, granted.id).await;
    }
    // A put without the lease takes the key off it.
    leased(&case, "c", granted.id).await;
    let before = case.put("c", "free").await;
    let left = case.store.lease_time_to_live(granted.id, true).await.unwrap();
    assert_eq!((left.id, left.granted_ttl), (granted.id, 600));
    assert!((590..=600).contains(&left.ttl), "{}", left.ttl);
    let mut keys: Vec<_> = left.keys.iter().map(|key| case.rest(key)).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
    while !case.store.lease_list().await.unwrap().contains(&granted.id) {
        assert!(started.elapsed() < DEADLINE, "every replica hears of it");
    }
    assert!((599..=600).contains(&case.store.lease_keep_alive(granted.id).await.unwrap()));
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), before + 1)).await.unwrap();
    let revision = case.store.lease_revoke(granted.id).await.unwrap();
    assert_eq!(revision, before + 1, "all of its keys as one revision");
    let events = events_until(&mut watcher, revision).await;
    assert!(events.len() == 2 && events.iter().all(|event| event.kind == EventKind::Delete));
    while case.store.lease_list().await.unwrap().contains(&granted.id) {
        assert!(started.elapsed() < DEADLINE, "every replica hears of it");
    }
    assert_eq!(case.store.range(RangeRequest::prefix(case.prefix())).await.unwrap().count, 1);
}

pub(super) async fn a_lease_that_is_not_there_is_said_so(case: Case) {
    let nobody = 0x4711_4711;
    assert_eq!(refusal(case.store.lease_revoke(nobody).await), Refusal::LeaseNotFound);
    assert_eq!(refusal(case.store.lease_keep_alive(nobody).await), Refusal::LeaseNotFound);
    let left = case.store.lease_time_to_live(nobody, true).await.unwrap();
    assert_eq!((left.ttl, left.granted_ttl, left.keys.len()), (-1, 0, 0));
    let put = PutRequest { lease: nobody, ..PutRequest::new(case.key("k"), "x") };
    assert_eq!(refusal(case.store.put(put).await), Refusal::LeaseNotFound);
    let mine = case.store.lease_grant(nobody, 600).await.unwrap();
    assert_eq!(mine.id, nobody);
    assert_eq!(refusal(case.store.lease_grant(nobody, 600).await), Refusal::LeaseExists);
    assert_eq!(refusal(case.store.lease_grant(0, MAX_LEASE_TTL + 1).await), Refusal::LeaseTtlTooLarge);
    case.store.lease_revoke(nobody).await.unwrap();
}

pub(super) async fn a_lease_lives_while_it_is_renewed(case: Case) {
    let (kept, left) = (case.store.lease_grant(0, 2).await.unwrap(), case.store.lease_grant(0, 2).await.unwrap());
    assert!(kept.ttl >= 2, "never shorter than asked for");
    leased(&case, "kept", kept.id).await;
    let last = leased(&case, "left", left.id).await;
    let started = Instant::now();
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), last + 1)).await.unwrap();
    let expired = async { events_until(&mut watcher, last + 1).await };
    tokio::pin!(expired);
    let events = loop {
        tokio::select! {
            events = &mut expired => break events,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                case.store.lease_keep_alive(kept.id).await.unwrap();
                assert!(started.elapsed() < DEADLINE, "a lease ends when nobody renews it");
            }
        }
    };
    assert!(started.elapsed() >= Duration::from_secs(1), "not before its time: {:?}", started.elapsed());
    assert_eq!((events.len(), case.rest(&events[0].kv.key), events[0].kind), (1, "left", EventKind::Delete));
    assert_eq!(case.store.range(RangeRequest::get(case.key("kept"))).await.unwrap().count, 1);
    case.store.lease_revoke(kept.id).await.unwrap();
}
