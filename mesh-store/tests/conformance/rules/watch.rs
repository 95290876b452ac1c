//! Watches.

use std::time::Duration;

use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::{DeleteRangeRequest, EventKind, KeyRange, PutRequest, TxnOp, TxnRequest};

use super::{Case, events_until, next};

pub(super) async fn a_watch_goes_from_the_past_into_the_present_without_a_gap(case: Case) {
    let first = case.put("a", "1").await;
    case.put("a", "2").await;
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), first)).await.unwrap();
    assert!(watcher.created_revision() > first);
    let mut revisions = vec![first, first + 1];
    for n in 0..50 {
        revisions.push(case.put("b", &n.to_string()).await);
    }
    let deleted = case.store.delete_range(DeleteRangeRequest::key(case.key("a"))).await.unwrap().revision;
    revisions.push(deleted);
    let events = events_until(&mut watcher, deleted).await;
    assert_eq!(events.iter().map(|event| event.kv.mod_revision).collect::<Vec<_>>(), revisions);
    let previous: Vec<_> = events[..3].iter().map(|event| event.prev_kv.as_ref().map(|kv| &kv.value[..])).collect();
    assert_eq!(previous, [None, Some(&b"1"[..]), None]);
    let last = events.last().unwrap();
    assert_eq!((last.kind, case.rest(&last.kv.key)), (EventKind::Delete, "a"));
    assert_eq!(&last.prev_kv.as_ref().unwrap().value[..], b"2");
    assert!(events[0].is_create() && !events[1].is_create());
}

pub(super) async fn a_watch_from_now_sees_only_what_comes(case: Case) {
    let before = case.put("k", "before").await;
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), 0)).await.unwrap();
    assert!(watcher.created_revision() >= before);
    let after = case.put("k", "after").await;
    let events = events_until(&mut watcher, after).await;
    assert_eq!(events.len(), 1);
    assert_eq!(&events[0].kv.value[..], b"after");
}

pub(super) async fn a_watch_may_begin_in_the_future(case: Case) {
    let now = case.put("k", "0").await;
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), now + 3)).await.unwrap();
    for value in ["1", "2", "3", "4"] {
        case.put("k", value).await;
    }
    let events = events_until(&mut watcher, now + 4).await;
    let values: Vec<_> = events.iter().map(|event| &event.kv.value[..]).collect();
    assert_eq!(values, [b"3", b"4"]);
}

pub(super) async fn a_revision_arrives_whole(case: Case) {
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), 0)).await.unwrap();
    let put = |n: usize| TxnOp::Put(PutRequest::new(case.key(&format!("{n:02}")), "x"));
    let elsewhere = TxnOp::Put(PutRequest::new("elsewhere", "x"));
    let success: Vec<TxnOp> = (0..50).map(put).chain([elsewhere]).collect();
    let revision = case.store.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap().revision;
    let update = next(&mut watcher).await;
    let WatchUpdate::Events(batch) = update else { panic!("{update:?}") };
    assert_eq!((batch.revision, batch.events.len()), (revision, 50));
}

pub(super) async fn a_watch_below_the_compaction_ends(case: Case) {
    let first = case.put("k", "1").await;
    let second = case.put("k", "2").await;
    case.store.compact(second).await.unwrap();
    let request = WatchRequest { range: KeyRange::single(case.key("k")), start_revision: first, ..Default::default() };
    let mut watcher = case.store.watch(request).await.unwrap();
    assert_eq!(next(&mut watcher).await, WatchUpdate::Compacted { compact_revision: second });
    assert!(watcher.next().await.is_none(), "and that is its end");
    // From the compacted revision itself on, all is there.
    let mut watcher = case.store.watch(WatchRequest::prefix(case.prefix(), second)).await.unwrap();
    assert_eq!(events_until(&mut watcher, second).await.len(), 1);
}

pub(super) async fn an_idle_watch_reports_how_far_it_is(case: Case) {
    let by_itself = Duration::from_millis(200);
    let request = |progress_interval| WatchRequest { progress_interval, ..WatchRequest::prefix(case.prefix(), 0) };
    let mut asked = case.store.watch(request(None)).await.unwrap();
    let mut idle = case.store.watch(request(Some(by_itself))).await.unwrap();
    let elsewhere = case.store.put(PutRequest::new("elsewhere", "x")).await.unwrap().revision;
    asked.control().ask_progress();
    for watcher in [&mut asked, &mut idle] {
        loop {
            let update = next(watcher).await;
            let WatchUpdate::Progress { revision } = update else { panic!("nothing happened here: {update:?}") };
            if revision >= elsewhere {
                break;
            }
            // It was on its way when the change was made.
            watcher.control().ask_progress();
        }
    }
}
