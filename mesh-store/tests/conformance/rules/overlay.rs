//! Two places of the store, read as one.

use std::collections::BTreeMap;

use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::{
    DeleteRangeRequest, EventKind, KeyRange, Overlay, PutRequest, RangeRequest, SortOrder, SortTarget, TxnOp,
    TxnRequest,
};

use super::{Case, events_until, next};

fn overlay(case: &Case, reader: &str) -> Overlay {
    Overlay::new(case.key("f/"), case.key(&format!("for/{reader}/")))
}

/// Where a reader's own copy of a shown key is kept.
fn own(case: &Case, reader: &str, rest: &str) -> String {
    format!("for/{reader}/{}{rest}", std::str::from_utf8(&case.prefix()).unwrap())
}

async fn shown(case: &Case, reader: &str, request: RangeRequest) -> (Vec<String>, bool, i64) {
    let answer = case.store.range_through(request, overlay(case, reader)).await.unwrap();
    (answer.kvs.iter().map(|kv| case.rest(&kv.key).to_owned()).collect(), answer.more, answer.count)
}

/// One put and one delete as one revision.
async fn moved(case: &Case, from: &str, to: &str, value: &str) -> i64 {
    let success = vec![
        TxnOp::Put(PutRequest::new(case.key(to), value.to_owned())),
        TxnOp::DeleteRange(DeleteRangeRequest::key(case.key(from))),
    ];
    case.store.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap().revision
}

pub(super) async fn two_places_are_one_range(case: Case) {
    for rest in ["f/1", "f/3", "f/5"] {
        case.put(rest, "everybody's").await;
    }
    for rest in ["f/2", "f/4"] {
        case.put(&own(&case, "b", rest), "b's").await;
    }
    let before = case.put(&own(&case, "c", "f/6"), "c's").await;
    let all = || RangeRequest::prefix(case.key("f/"));
    let five = ["f/1", "f/2", "f/3", "f/4", "f/5"].map(str::to_owned).to_vec();
    assert_eq!(shown(&case, "b", all()).await, (five.clone(), false, 5));
    assert_eq!(shown(&case, "c", all()).await.0, ["f/1", "f/3", "f/5", "f/6"]);
    assert_eq!(shown(&case, "d", all()).await.0, ["f/1", "f/3", "f/5"]);
    assert_eq!(shown(&case, "b", RangeRequest { count_only: true, ..all() }).await, (vec![], false, 5));
    assert_eq!(shown(&case, "b", RangeRequest::get(case.key("f/2"))).await, (vec!["f/2".to_owned()], false, 1));
    assert_eq!(shown(&case, "c", RangeRequest::get(case.key("f/2"))).await, (vec![], false, 0));
    // Page by page, at one revision while the store goes on.
    case.put(&own(&case, "b", "f/0"), "later").await;
    let mut pages = Vec::new();
    let mut from = case.key("f/");
    loop {
        let range = KeyRange::new(from.clone(), case.key("f0"));
        let page = RangeRequest { range, limit: 2, revision: before, ..RangeRequest::default() };
        let (keys, more, count) = shown(&case, "b", page).await;
        assert_eq!(usize::try_from(count).unwrap(), 5 - pages.len());
        from = [&case.key(keys.last().unwrap())[..], b"\0"].concat().into();
        pages.extend(keys);
        if !more {
            break;
        }
    }
    assert_eq!(pages, five);
    let newest = RangeRequest { sort_order: SortOrder::Descend, sort_target: SortTarget::Mod, limit: 1, ..all() };
    assert_eq!(shown(&case, "b", newest).await, (vec!["f/0".to_owned()], true, 6));
    let since = RangeRequest { min_mod_revision: before - 1, keys_only: true, ..all() };
    assert_eq!(shown(&case, "b", since).await, (vec!["f/0".to_owned(), "f/4".to_owned()], false, 6));
    let serializable = RangeRequest { serializable: true, ..all() };
    assert!(shown(&case, "b", serializable).await.2 >= 5);
    // Beside what the overlay is about, all is as it is.
    case.put("g", "x").await;
    assert_eq!(shown(&case, "b", RangeRequest::get(case.key("g"))).await.2, 1);
}

pub(super) async fn two_places_are_one_watch(case: Case) {
    let first = case.put("f/1", "1").await;
    let watch = |reader: &str, from| WatchRequest {
        overlay: Some(overlay(&case, reader)),
        ..WatchRequest::prefix(case.key("f/"), from)
    };
    let mut watchers = BTreeMap::new();
    for reader in ["b", "c"] {
        watchers.insert(reader, case.store.watch(watch(reader, first)).await.unwrap());
    }
    let own_1 = own(&case, "b", "f/1");
    moved(&case, "f/1", &own_1, "2").await;
    case.put(&own(&case, "b", "f/2"), "only b's").await;
    case.put(&own(&case, "c", "f/3"), "only c's").await;
    case.put("h", "nobody's").await;
    moved(&case, &own_1, "f/1", "3").await;
    // In two steps: the new place first.
    case.put(&own_1, "4").await;
    case.store.delete_range(DeleteRangeRequest::key(case.key("f/1"))).await.unwrap();
    let last = case.put("f/9", "the end").await;
    let mut seen = BTreeMap::new();
    for (reader, watcher) in &mut watchers {
        let events = events_until(watcher, last).await;
        assert!(events.is_sorted_by_key(|event| event.kv.mod_revision));
        let short = events.iter().map(|event| {
            let sign = if event.kind == EventKind::Put { '+' } else { '-' };
            let before = event.prev_kv.as_ref().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
            let value = String::from_utf8(event.kv.value.to_vec()).unwrap();
            format!("{sign}{} {value} ({})", case.rest(&event.kv.key), before.unwrap_or_default())
        });
        seen.insert(*reader, short.collect::<Vec<_>>());
    }
    assert_eq!(
        seen["b"],
        ["+f/1 1 ()", "+f/1 2 (1)", "+f/2 only b's ()", "+f/1 3 (2)", "+f/1 4 (3)", "+f/9 the end ()"]
    );
    assert_eq!(seen["c"], ["+f/1 1 ()", "-f/1  (1)", "+f/3 only c's ()", "+f/1 3 ()", "-f/1  (3)", "+f/9 the end ()"]);
}

pub(super) async fn a_watch_through_an_overlay_resumes_and_ends_as_any_other(case: Case) {
    let mut revisions = Vec::new();
    for n in 0..4 {
        revisions.push(case.put(&own(&case, "b", "f/1"), &n.to_string()).await);
    }
    let watch = |from| WatchRequest {
        overlay: Some(overlay(&case, "b")),
        range: KeyRange::single(case.key("f/1")),
        start_revision: from,
        ..WatchRequest::default()
    };
    let mut resumed = case.store.watch(watch(revisions[1] + 1)).await.unwrap();
    let events = events_until(&mut resumed, revisions[3]).await;
    assert_eq!(events.iter().map(|event| event.kv.mod_revision).collect::<Vec<_>>(), revisions[2..]);
    // What happens elsewhere is progress.
    let elsewhere = case.put("elsewhere", "x").await;
    loop {
        resumed.control().ask_progress();
        match next(&mut resumed).await {
            WatchUpdate::Progress { revision } if revision >= elsewhere => break,
            WatchUpdate::Progress { .. } => {}
            other => panic!("nothing of it is shown: {other:?}"),
        }
    }
    case.store.compact(revisions[2]).await.unwrap();
    let mut behind = case.store.watch(watch(revisions[0])).await.unwrap();
    assert_eq!(next(&mut behind).await, WatchUpdate::Compacted { compact_revision: revisions[2] });
    assert!(behind.next().await.is_none(), "and that is its end");
    let mut from_there = case.store.watch(watch(revisions[2])).await.unwrap();
    assert_eq!(events_until(&mut from_there, revisions[3]).await.len(), 2);
}
