//! The external backend on a real etcd: the rules, and what only it has to get right.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_peer::{Cluster, EtcdPeer, Options as EtcdOptions};
use mesh_store::Store;
use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::external::{External, OpenError, Options};
use mesh_store::mvcc::{PutRequest, RangeRequest};

use super::hold_all;

const DEADLINE: Duration = Duration::from_mins(1);

fn peer() -> EtcdPeer {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
    EtcdPeer::obtain(workspace).expect("a real etcd")
}

fn three_members() -> Cluster {
    let flags = ["--max-txn-ops=2048", "--max-request-bytes=4194304"].map(str::to_owned).to_vec();
    Cluster::start(&peer(), &EtcdOptions { members: 3, flags, tls: None }).expect("three members of etcd")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_of_three_members_keeps_every_rule() {
    let cluster = three_members();
    let store = External::open(Options::new(cluster.endpoints())).await.unwrap();
    hold_all("external", Arc::clone(&store) as Arc<dyn Store>).await;
    store.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_costs_no_event_and_no_read() {
    const WRITES: usize = 60;
    let mut cluster = three_members();
    let store = External::open(Options::new(cluster.endpoints())).await.unwrap();
    let start_revision = store.range(RangeRequest::get("w")).await.unwrap().revision + 1;
    // Spread over the members by the client, so that every one of them serves some.
    let mut watchers = Vec::new();
    for _ in 0..6 {
        watchers.push(store.watch(WatchRequest::prefix("w/", start_revision)).await.unwrap());
    }
    let mut acknowledged = Vec::new();
    for n in 0..WRITES {
        if n % 20 == 10 {
            let member = n / 20;
            if member > 0 {
                cluster.restart(member - 1).unwrap();
            }
            cluster.kill(member).unwrap();
        }
        // A write may be cut off by the kill. Its outcome is unknown then; it is not repeated.
        if store.put(PutRequest::new(format!("w/{n:03}"), "x")).await.is_ok() {
            acknowledged.push(format!("w/{n:03}"));
        }
        store.range(RangeRequest::get("w")).await.expect("a read goes to another member");
    }
    assert!(acknowledged.len() > WRITES / 2, "two of three members are enough: {}", acknowledged.len());
    let end = store.put(PutRequest::new("w/end", "")).await.unwrap().revision;
    for mut watcher in watchers {
        let mut seen: Vec<String> = Vec::new();
        let mut reached = 0;
        while reached < end {
            let update = tokio::time::timeout(DEADLINE, watcher.next()).await.expect("in time").expect("goes on");
            let WatchUpdate::Events(batch) = update else { continue };
            for event in batch.events {
                assert!(event.kv.mod_revision > reached, "in order, and never twice");
                seen.push(String::from_utf8(event.kv.key.to_vec()).unwrap());
            }
            reached = batch.revision;
        }
        for key in &acknowledged {
            assert!(seen.contains(key), "{key} was acknowledged and is not in {seen:?}");
        }
    }
    store.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_cannot_be_used_is_refused_with_what_to_change() {
    let nobody = External::open(Options::new(vec!["http://127.0.0.1:1".to_owned()])).await.err().unwrap();
    let text = nobody.to_string();
    assert!(matches!(nobody, OpenError::Unreachable { .. }), "{text}");
    assert!(text.contains("http://127.0.0.1:1") && text.contains("Check that it runs"), "{text}");

    let small = Cluster::start(&peer(), &EtcdOptions::default()).unwrap();
    let refused = External::open(Options::new(small.endpoints())).await.err().unwrap().to_string();
    assert!(refused.contains(&small.endpoints()[0]) && refused.contains("--max-txn-ops=1024"), "{refused}");
}
