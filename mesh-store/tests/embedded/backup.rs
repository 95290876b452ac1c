//! A backup and what becomes of it.

use futures::StreamExt as _;
use mesh_store::mvcc::{KeyRange, PutRequest, RangeRequest};
use mesh_store::{BackupError, Embedded, RestoreError, Store};

use super::{WatchRequest, events_until, open, options, put};

async fn save(store: &Embedded, path: &std::path::Path) {
    let mut backup = store.backup().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = backup.chunks.next().await {
        bytes.extend_from_slice(&chunk.unwrap().data);
    }
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_as_a_store_of_its_own_that_goes_on_from_the_same_revision() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(options(&dir.path().join("old"))).await;
    let lease = old.lease_grant(0, 600).await.unwrap().id;
    for n in 0..50 {
        put(&old, format!("k/{n:02}"), "v".repeat(1000)).await;
    }
    old.put(PutRequest { lease, ..PutRequest::new("leased", "x") }).await.unwrap();
    let revision = put(&old, "k/00", "second").await;
    let file = dir.path().join("backup");
    save(&old, &file).await;
    put(&old, "after", "is not in it").await;
    let all = RangeRequest { range: KeyRange::all(), revision, ..RangeRequest::default() };
    let (before, hash) = (old.range(all.clone()).await.unwrap(), old.hash_kv(revision).await.unwrap().hash);
    let number = old.cluster_id();
    old.shutdown().await;

    let new_dir = dir.path().join("new");
    let restored = Embedded::restore(&file, &new_dir).await.unwrap();
    assert_eq!((restored.backup.revision, restored.backup.keys, restored.backup.cluster_id), (revision, 51, number));
    assert_ne!(restored.cluster_id, number, "whoever has read the old one reads again");
    for round in 0..2 {
        let new = open(options(&new_dir)).await;
        assert_eq!(new.cluster_id(), restored.cluster_id, "round {round}");
        let found = new.range(all.clone()).await.unwrap();
        assert_eq!((found.kvs, found.count), (before.kvs.clone(), before.count));
        assert_eq!(new.hash_kv(revision).await.unwrap().hash, hash, "history included");
        assert_eq!(new.lease_time_to_live(lease, true).await.unwrap().keys, ["leased"]);
        let next = put(&new, "next", "x").await;
        assert_eq!(next, revision + 1 + round);
        let mut watcher = new.watch(WatchRequest::prefix("k/", 2)).await.unwrap();
        assert_eq!(events_until(&mut watcher, revision).await.len(), 51);
        new.shutdown().await;
    }

    let again = Embedded::restore(&file, &new_dir).await;
    assert!(matches!(again, Err(RestoreError::NotEmpty { .. })), "{again:?}");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = Embedded::restore(&file, &dir.path().join("third")).await;
    assert!(matches!(damaged, Err(RestoreError::Backup(BackupError::Damaged { .. }))), "{damaged:?}");
}
