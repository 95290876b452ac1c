//! The embedded store through its trait: durability, watches, leases, retention, snapshots.

#![expect(clippy::disallowed_methods, reason = "a test ends its tasks with its runtime")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

#[path = "embedded/backup.rs"]
mod backup;
#[path = "embedded/space.rs"]
mod space;
#[path = "shared/watching.rs"]
mod watching;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_store::backend::{Error, Leadership, Member, MemberError, WatchRequest, WatchUpdate, Watcher};
use mesh_store::mvcc::{Compare, DeleteRangeRequest, EventKind, KeyRange, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_store::{Embedded, Fenced, LogStoreError, Metrics, OpenError, Options, Retention, Store};

use crate::watching::{events_until, next};

const DEADLINE: Duration = Duration::from_secs(30);

fn options(dir: &Path) -> Options {
    Options { segment_bytes: 256 * 1024, ..Options::new(dir) }
}

async fn open(options: Options) -> Arc<Embedded> {
    let started = Instant::now();
    loop {
        match Embedded::open(options.clone(), Metrics::detached()).await {
            Ok(store) => return store,
            // The predecessor was dropped without a shutdown and is still going down.
            Err(OpenError::Log(LogStoreError::InUse { .. })) if started.elapsed() < DEADLINE => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn put(store: &Embedded, key: impl Into<bytes::Bytes>, value: impl Into<bytes::Bytes>) -> i64 {
    store.put(PutRequest::new(key, value)).await.unwrap().revision
}

async fn wait_for(mut condition: impl AsyncFnMut() -> bool, what: &str) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_at_the_same_revision_with_the_same_cluster_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    let cluster_id = store.cluster_id();
    assert_ne!(cluster_id, 0);
    for n in 0..100 {
        put(&store, format!("k/{n:03}"), "v").await;
    }
    store.delete_range(DeleteRangeRequest::key("k/000")).await.unwrap();
    let before = store.range(RangeRequest::prefix("k/")).await.unwrap();
    store.shutdown().await;
    assert!(matches!(store.put(PutRequest::new("late", "")).await, Err(Error::Stopped)));
    drop(store);

    for shut_down in [false, true] {
        let store = open(options(dir.path())).await;
        assert_eq!(store.cluster_id(), cluster_id);
        assert_eq!(store.revision(), before.revision);
        assert_eq!(store.range(RangeRequest::prefix("k/")).await.unwrap(), before);
        let old = RangeRequest { revision: 50, ..RangeRequest::prefix("k/") };
        assert_eq!(store.range(old).await.unwrap().count, 49);
        if shut_down {
            store.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    let second = Embedded::open(options(dir.path()), Metrics::detached()).await;
    assert!(matches!(second.err(), Some(OpenError::Log(LogStoreError::InUse { .. }))));
    store.shutdown().await;
}

#[tokio::test]
async fn a_group_of_one_knows_its_member_and_refuses_what_would_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    let ids: Vec<_> = store.members(true).await.unwrap().iter().map(|member| (member.id, member.is_learner)).collect();
    assert_eq!(ids, [(1, false)]);
    let refusal = |result: Result<Vec<Member>, Error>| match result {
        Err(Error::Member(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(store.member_remove(1).await), MemberError::NotEnoughStarted);
    assert_eq!(refusal(store.member_remove(2).await), MemberError::NotFound);
    assert_eq!(refusal(store.member_promote(1).await), MemberError::NotLearner);
    assert!(matches!(store.member_add(Member::default()).await, Err(Error::Member(MemberError::Alone))));
    store.move_leader(1).await.unwrap();
    assert!(matches!(store.move_leader(2).await, Err(Error::Member(MemberError::BadTransferee))));
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_purge_the_log_and_restore_history_leases_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.snapshot_log_bytes = 300 * 1024;
    let store = open(options.clone()).await;
    let cluster_id = store.cluster_id();
    let lease = store.lease_grant(0, 600).await.unwrap();
    store.put(PutRequest { lease: lease.id, ..PutRequest::new("leased", "v") }).await.unwrap();
    let snapshots = dir.path().join("snapshot");
    let taken = || std::fs::read_dir(&snapshots).unwrap().count() > 0;
    let started = Instant::now();
    let mut last = 0;
    for n in 0_u64.. {
        last = put(&store, format!("k/{}", n % 50), vec![7; 4096]).await;
        assert!(started.elapsed() < DEADLINE, "a snapshot is taken");
        if taken() {
            break;
        }
    }
    put(&store, "after", "snapshot").await;
    let segments = || std::fs::read_dir(dir.path().join("log")).unwrap().count();
    wait_for(async || segments() <= 4, "the log is purged").await;
    drop(store);

    let store = open(options).await;
    assert_eq!((store.cluster_id(), store.revision()), (cluster_id, last + 1));
    assert_eq!(store.range(RangeRequest::prefix("k/")).await.unwrap().count, 50);
    assert_eq!(store.lease_time_to_live(lease.id, true).await.unwrap().keys, ["leased"]);
    let mut watcher = store.watch(WatchRequest::prefix("k/", 3)).await.unwrap();
    let revisions: Vec<_> = events_until(&mut watcher, last).await.iter().map(|event| event.kv.mod_revision).collect();
    assert!(revisions.iter().copied().eq(3..=last), "{} events", revisions.len());
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_reported_and_never_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    put(&store, "a", "1").await;
    store.snapshot().await.unwrap();
    let snapshots = dir.path().join("snapshot");
    let newest = || {
        let files = std::fs::read_dir(&snapshots).unwrap().map(|file| file.unwrap().path());
        files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "snap"))
    };
    wait_for(async || newest().is_some(), "a snapshot").await;
    store.shutdown().await;
    drop(store);
    let path = newest().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let started = Instant::now();
    let error = loop {
        match Embedded::open(options(dir.path()), Metrics::detached()).await {
            Err(OpenError::Log(LogStoreError::InUse { .. })) if started.elapsed() < DEADLINE => {
                tokio::task::yield_now().await;
            }
            result => break result.err().expect("a damaged snapshot is refused"),
        }
    };
    assert!(error.to_string().contains("is damaged: its checksum does not match"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_gets_every_event_once_and_in_order_however_slow_it_is() {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    put(&store, "k/before", "").await;
    let fast = store.watch(WatchRequest::prefix("k/", 1)).await.unwrap();
    let slow = store.watch(WatchRequest::prefix("k/", 0)).await.unwrap();
    let future = store.watch(WatchRequest::prefix("k/", 1000)).await.unwrap();
    let one = WatchRequest { range: KeyRange::single("k/3/7"), ..WatchRequest::default() };
    let mut one = store.watch(one).await.unwrap();
    let last = i64::try_from(WRITERS * WRITES).unwrap() + 2;
    let collect = |mut watcher: Watcher, lazily: bool| {
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            while revisions.last() != Some(&last) {
                if lazily {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if let WatchUpdate::Events(batch) = next(&mut watcher).await {
                    revisions.extend(batch.events.iter().map(|event| event.kv.mod_revision));
                }
            }
            revisions
        })
    };
    let (fast, slow, future) = (collect(fast, false), collect(slow, true), collect(future, false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..WRITES {
                    put(&store, format!("k/{writer}/{n}"), "v").await;
                    put_elsewhere(&store, n).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let late = collect(store.watch(WatchRequest::prefix("k/", 2)).await.unwrap(), false);
    for (watcher, first, name) in [(fast, 2, "fast"), (slow, 3, "slow"), (future, 1000, "future"), (late, 2, "late")] {
        let revisions = watcher.await.unwrap();
        let wrong = revisions.iter().zip(first..=last).find(|(seen, expected)| **seen != *expected);
        assert_eq!(wrong, None, "{name}");
        assert_eq!(revisions.last(), Some(&last), "{name}");
    }
    let WatchUpdate::Events(batch) = next(&mut one).await else { panic!() };
    assert_eq!(batch.events.len(), 1);
    store.shutdown().await;
}

/// A read between the writes, so that readers and writers meet.
async fn put_elsewhere(store: &Embedded, n: u64) {
    if n.is_multiple_of(10) {
        store.range(RangeRequest { limit: 5, ..RangeRequest::prefix("k/") }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_left_behind_by_compaction_is_told_and_an_idle_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.retention = Retention { min_age: Duration::from_hours(1), max_revisions: 100 };
    let store = open(options).await;
    let mut behind = store.watch(WatchRequest::prefix("busy/", 2)).await.unwrap();
    let mut idle = store.watch(WatchRequest::prefix("idle/", 2)).await.unwrap();
    for n in 0..500 {
        put(&store, format!("busy/{n}"), "").await;
    }
    wait_for(async || store.status().await.unwrap().compact_revision >= 400, "history is bounded").await;
    assert!(matches!(next(&mut behind).await, WatchUpdate::Compacted { compact_revision } if compact_revision >= 400));
    assert!(behind.next().await.is_none());
    let revision = put(&store, "idle/a", "").await;
    let events = events_until(&mut idle, revision).await;
    assert_eq!(events.len(), 1);
    store.shutdown().await;
}

#[tokio::test]
async fn an_idle_watcher_reports_progress_by_itself_and_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    let request =
        WatchRequest { progress_interval: Some(Duration::from_millis(30)), ..WatchRequest::prefix("idle/", 0) };
    let mut by_itself = store.watch(request).await.unwrap();
    let mut asked = store.watch(WatchRequest::prefix("idle/", 0)).await.unwrap();
    let revision = put(&store, "other", "").await;
    while next(&mut by_itself).await != (WatchUpdate::Progress { revision }) {}
    asked.control().ask_progress();
    assert_eq!(next(&mut asked).await, WatchUpdate::Progress { revision });
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_the_first_revision_of_an_empty_store_waits_for_the_first_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    assert_eq!(store.revision(), 1);
    // In a task, since what it must not do is to keep its thread busy.
    let (quiet, is_quiet) = tokio::sync::oneshot::channel();
    let watching = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut watcher = store.watch(WatchRequest::prefix("", 1)).await.unwrap();
            watcher.control().ask_progress();
            assert_eq!(next(&mut watcher).await, WatchUpdate::Progress { revision: 1 });
            quiet.send(()).unwrap();
            events_until(&mut watcher, 2).await.len()
        }
    });
    tokio::time::timeout(DEADLINE, is_quiet).await.expect("the watch is quiet").unwrap();
    assert_eq!(put(&store, "k", "v").await, 2);
    assert_eq!(tokio::time::timeout(DEADLINE, watching).await.expect("the watch is answered").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_unless_it_is_kept_alive() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    let short = store.lease_grant(11, 1).await.unwrap();
    let kept = store.lease_grant(12, 2).await.unwrap();
    for (key, lease) in [("short", short.id), ("kept", kept.id)] {
        store.put(PutRequest { lease, ..PutRequest::new(key, "") }).await.unwrap();
    }
    let mut watcher = store.watch(WatchRequest::prefix("", 0)).await.unwrap();
    let keeper = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            loop {
                store.lease_keep_alive(12).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    };
    let WatchUpdate::Events(batch) = next(&mut watcher).await else { panic!() };
    assert_eq!((batch.events[0].kind, &batch.events[0].kv.key[..]), (EventKind::Delete, &b"short"[..]));
    assert_eq!(store.lease_time_to_live(11, true).await.unwrap().ttl, -1);
    assert_eq!(store.lease_list().await.unwrap(), [12]);
    keeper.abort();
    let WatchUpdate::Events(batch) = next(&mut watcher).await else { panic!() };
    assert_eq!(batch.events[0].kv.key, "kept");
    assert!(matches!(store.lease_keep_alive(12).await, Err(Error::Refused(_))));
    assert_eq!(store.leadership(), Leadership::Here, "a group of one leads, however long nothing happens");
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_transactions_on_one_key_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(options(dir.path())).await;
    let racers: Vec<_> = (0..32)
        .map(|n: u64| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let request = TxnRequest {
                    compare: vec![Compare::absent("lock")],
                    success: vec![TxnOp::Put(PutRequest::new("lock", n.to_string()))],
                    failure: vec![TxnOp::Range(RangeRequest::get("lock"))],
                };
                store.txn(request).await.unwrap().succeeded
            })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        winners += usize::from(racer.await.unwrap());
    }
    assert_eq!(winners, 1);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_a_sync() {
    const CLIENTS: u64 = 100;
    const WRITES: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::detached();
    let store = Embedded::open(options(dir.path()), metrics.clone()).await.unwrap();
    let before = metrics.fdatasync_total();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..WRITES {
                    put(&store, format!("{client}/{n}"), vec![1; 300]).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let syncs = metrics.fdatasync_total() - before;
    assert!(syncs * 5 < CLIENTS * WRITES, "{syncs} syncs for {} writes", CLIENTS * WRITES);
    store.shutdown().await;
}

#[tokio::test]
async fn a_former_holder_of_a_role_writes_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = open(options(dir.path())).await;
    let first = store.put(PutRequest::new("role", "first")).await.unwrap().revision;
    let fenced = Fenced::new(Arc::clone(&store), "role", first);
    fenced.put(PutRequest::new("fact", "of the first")).await.unwrap();
    let ops = vec![TxnOp::Put(PutRequest::new("other", "of the first"))];
    let txn = TxnRequest { success: ops, ..TxnRequest::default() };
    assert!(fenced.txn(txn.clone()).await.unwrap().succeeded, "a transaction is answered as if there were no fence");

    store.delete_range(DeleteRangeRequest::key("role")).await.unwrap();
    store.put(PutRequest::new("role", "second")).await.unwrap();
    let before = store.revision();
    let refused = [
        fenced.put(PutRequest::new("fact", "late")).await.unwrap_err(),
        fenced.delete_range(DeleteRangeRequest::key("fact")).await.unwrap_err(),
        fenced.txn(txn).await.unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::Fenced { .. }), "{error}");
        assert_eq!(error.to_string(), "role has another holder now: nothing was written");
    }
    assert_eq!(store.revision(), before);
}
