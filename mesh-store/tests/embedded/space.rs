//! A disk that fills up: the alarm before it is full, and the end of a replica when it is.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_store::backend::Error;
use mesh_store::mvcc::{AlarmAction, DeleteRangeRequest, PutRequest, RangeRequest};
use mesh_store::{Disk, DiskFile, Options, RealDisk, Store as _};

use super::{DEADLINE, open, options, put, wait_for};

/// The machine's disk, but for how full it says it is.
#[derive(Debug, Default)]
struct Filling {
    real: RealDisk,
    full: AtomicBool,
    /// Nothing new finds room; what there is can be written to.
    out_of_space: AtomicBool,
}

impl Disk for Filling {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.real.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.real.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.out_of_space.load(Ordering::Acquire) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.real.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.real.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.real.exchange(one, other)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.real.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.real.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        self.real.lock(path)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        if self.full.load(Ordering::Acquire) { Ok(100_000) } else { self.real.free(dir) }
    }

    fn may_block(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_refuses_writes_serves_reads_and_has_a_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Filling::default());
    let filling: Arc<dyn Disk> = Arc::<Filling>::clone(&disk);
    let store = open(Options { disk: filling, ..options(dir.path()) }).await;
    put(&store, "a", "1").await;
    disk.full.store(true, Ordering::Release);
    let refused = async || {
        let result = store.put(PutRequest::new("b", "2")).await;
        matches!(result, Err(Error::Refused(mesh_store::mvcc::Error::NoSpace)))
    };
    wait_for(refused, "writes are refused").await;
    assert_eq!(store.range(RangeRequest::get("a")).await.unwrap().count, 1);
    store.delete_range(DeleteRangeRequest::key("a")).await.unwrap();
    disk.full.store(false, Ordering::Release);
    for alarm in store.alarms(true).await.unwrap() {
        store.set_alarm(AlarmAction::Disarm, alarm).await.unwrap();
    }
    put(&store, "b", "2").await;
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_log_finds_no_room_says_why_and_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Filling::default());
    let filling: Arc<dyn Disk> = Arc::<Filling>::clone(&disk);
    let own = || Options { disk: Arc::clone(&filling), ..options(dir.path()) };
    let store = open(own()).await;
    disk.out_of_space.store(true, Ordering::Release);
    let mut acknowledged = 0;
    // One log file is in use, and one is prepared.
    while store.put(PutRequest::new(format!("k/{acknowledged:03}"), vec![0; 64 << 10])).await.is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 100, "two files of 256 KiB took {acknowledged} values of 64 KiB");
    }
    let why = tokio::time::timeout(DEADLINE, store.failed()).await.unwrap();
    assert!(why.contains(&io::Error::from(io::ErrorKind::StorageFull).to_string()), "{why}");
    disk.full.store(true, Ordering::Release);
    let lack = store.has_room().unwrap_err().to_string();
    assert!(lack.contains("make room") && lack.contains(&*dir.path().to_string_lossy()), "{lack}");
    store.shutdown().await;
    drop(store);

    disk.full.store(false, Ordering::Release);
    disk.out_of_space.store(false, Ordering::Release);
    let store = open(own()).await;
    store.has_room().unwrap();
    let kept = store.range(RangeRequest::prefix("k/")).await.unwrap().count;
    // The one that failed may be there or not.
    assert!(kept == acknowledged || kept == acknowledged + 1, "{kept} of {acknowledged}");
    put(&store, "k", "on").await;
    store.shutdown().await;
}
