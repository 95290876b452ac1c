//! openraft's log storage over [`Log`]: a thread of its own writes and syncs, recent entries are kept in memory.
//!
//! It must never tell openraft that entries are on disk before [`Log::append`] has returned.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogId as _, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::log::{Damage, Log};
use super::meta::{Meta, MetaError, MetaFile};
use super::recent::{Recent, weight};
use super::snapshot::SnapshotDir;
use super::types::{Entry, LogId, NodeId, StorageError, StorageIoError, StoreTypes, Vote};
use crate::metrics::Metrics;

/// Entries looked at a time while a message for another replica is put together.
const ENTRIES_PER_READ: u64 = 16;
/// Entries of about so many bytes travel to another replica in one message; a single larger one travels alone.
const BYTES_PER_MESSAGE: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error(transparent)]
    Log(#[from] Damage),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] io::Error),
    #[error("{path:?} cannot be used")]
    Dir { path: PathBuf, source: io::Error },
    #[error("{path:?} is in use by another process, or by this one")]
    InUse { path: PathBuf },
}

#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    files: Arc<Mutex<Files>>,
    /// Written by `append`, `truncate` and `purge`, read by whoever reads entries.
    recent: Mutex<Recent>,
    metrics: Metrics,
    /// `None` on a disk that needs no thread.
    writer: Option<Writer>,
    /// What must cover the entries that are purged; without it, whoever asks for that has to know.
    snapshots: OnceLock<SnapshotDir>,
    /// Given back when the writer has ended: only then may another open the folder.
    _lock: Box<dyn Any + Send + Sync>,
}

struct Writer {
    jobs: mpsc::Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Files {
    log: Log,
    meta: MetaFile,
}

type Change = Box<dyn FnOnce(&mut Files) -> io::Result<()> + Send>;

enum Job {
    Append { entries: Vec<Entry>, done: LogFlushed<StoreTypes> },
    Change { change: Change, done: oneshot::Sender<io::Result<()>> },
    Stop,
}

impl LogStore {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        id: NodeId,
        segment_bytes: u64,
        metrics: Metrics,
    ) -> Result<Self, LogStoreError> {
        let lock = lock_dir(&**disk, dir)?;
        let mut meta = MetaFile::open(Arc::clone(disk), dir)?;
        if let Some(vote) = &mut meta.meta.vote
            && vote.leader_id.voted_for() == Some(id)
        {
            // openraft would lead on at once in the old term. It does not know any more up to where that term's entries were
            // committed, so its reads could miss what was acknowledged before the restart. A vote that is not committed makes
            // it stand for election, and commit an entry of a new term before anything is read.
            vote.committed = false;
        }
        let first_wanted = meta.meta.purged.map_or(0, |purged| purged.index + 1);
        let log = Log::open(Arc::clone(disk), &dir.join("log"), segment_bytes, first_wanted)?;
        let files = Arc::new(Mutex::new(Files { log, meta }));
        let writer = if disk.may_block() {
            let (jobs, queue) = mpsc::channel();
            let (writing, metrics) = (Arc::clone(&files), metrics.clone());
            let thread = std::thread::Builder::new()
                .name("store-log".to_owned())
                .spawn(move || write_jobs(&queue, &writing, &metrics))
                .map_err(LogStoreError::Thread)?;
            Some(Writer { jobs, thread: Mutex::new(Some(thread)) })
        } else {
            None
        };
        let shared =
            Shared { files, recent: Mutex::default(), metrics, writer, snapshots: OnceLock::new(), _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// From here on no entry is let go before a snapshot of these covers it.
    pub(crate) fn hold_for(&self, snapshots: SnapshotDir) {
        // Set once, by whoever puts the replica together.
        drop(self.shared.snapshots.set(snapshots));
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.shared.files.lock().meta.meta.purged
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.shared.files.lock().meta.meta.cluster_id
    }

    pub(crate) async fn save_cluster_id(&self, cluster_id: u64) -> io::Result<()> {
        self.change(move |files| {
            let meta = Meta { cluster_id, ..files.meta.meta.clone() };
            files.meta.save(meta)
        })
        .await
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.shared.files.lock().log.disk_bytes()
    }

    /// Bytes of the entries behind a snapshot that covers everything up to `covered`.
    pub(crate) fn bytes_after(&self, covered: Option<u64>) -> u64 {
        self.shared.files.lock().log.bytes_from(covered.map_or(0, |covered| covered + 1))
    }

    /// The last entry that is not needed any more when a snapshot covers everything up to `covered` and so many bytes
    /// before that are kept; `None` if all are.
    pub(crate) fn purgeable(&self, covered: u64, keep: u64) -> Option<u64> {
        let files = self.shared.files.lock();
        let from = files.log.last_within(covered, keep);
        (!files.log.is_empty() && from > files.log.first()).then(|| from - 1)
    }

    /// Where the log ends, as far as it is written.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        if let Some(last) = self.shared.recent.lock().last() {
            return Some(last);
        }
        let files = self.shared.files.lock();
        let last = files.log.next().checked_sub(1).and_then(|last| files.log.read(last, last + 1).ok());
        let entry = last.and_then(|payloads| decode(payloads.first()?).ok());
        entry.map(|entry| entry.log_id).or(files.meta.meta.purged)
    }

    async fn change(&self, change: impl FnOnce(&mut Files) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        let job = Job::Change { change: Box::new(change), done };
        self.shared.submit(job)?;
        result.await.ok().ok_or_else(gone)?
    }

    fn read(&self, from: u64, until: u64) -> io::Result<Vec<Entry>> {
        let payloads = self.shared.files.lock().log.read(from, until)?;
        payloads.iter().map(|payload| decode(payload)).collect()
    }
}

impl Shared {
    fn submit(&self, job: Job) -> io::Result<()> {
        if let Some(writer) = &self.writer {
            return writer.jobs.send(job).ok().ok_or_else(gone);
        }
        do_job(job, &self.files, &self.metrics);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(writer) = &self.writer else { return };
        // The receiver ends with the thread only, so this cannot fail before the join.
        drop(writer.jobs.send(Job::Stop));
        let thread = writer.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the log panicked");
        }
    }
}

/// Creates the folder if need be and sees to it that nobody else has it open.
fn lock_dir(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Any + Send + Sync>, LogStoreError> {
    let at = |source| LogStoreError::Dir { path: dir.to_path_buf(), source };
    disk.create_dir(dir).map_err(at)?;
    disk.lock(&dir.join("lock")).map_err(at)?.ok_or_else(|| LogStoreError::InUse { path: dir.to_path_buf() })
}

fn write_jobs(queue: &mpsc::Receiver<Job>, files: &Mutex<Files>, metrics: &Metrics) {
    while let Ok(job) = queue.recv() {
        if matches!(job, Job::Stop) {
            return;
        }
        do_job(job, files, metrics);
    }
}

fn do_job(job: Job, files: &Mutex<Files>, metrics: &Metrics) {
    match job {
        Job::Append { entries, done } => {
            let started = Instant::now();
            let mut files = files.lock();
            let result = files.log.append(entries.iter().map(|entry| {
                (entry.log_id.index, move |out: &mut Vec<u8>| {
                    postcard::to_io(entry, out).map(drop).map_err(io::Error::other)
                })
            }));
            drop(files);
            metrics.fdatasync.inc();
            // A batch is written and synced in one go, and the write costs next to nothing beside the sync.
            metrics.fsync_seconds.observe(started.elapsed().as_secs_f64());
            done.log_io_completed(result);
        }
        Job::Change { change, done } => {
            let result = change(&mut files.lock());
            // Whoever asked may have been cancelled.
            drop(done.send(result));
        }
        Job::Stop => {}
    }
}

fn decode(payload: &[u8]) -> io::Result<Entry> {
    postcard::from_bytes(payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes the log has ended")
}

impl RaftLogReader<StoreTypes> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let until = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        if let Some(entries) = self.shared.recent.lock().get(from, until) {
            return Ok(entries);
        }
        self.read(from, until).map_err(|error| StorageIoError::read_logs(&error).into())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = start;
        while next < end && bytes < BYTES_PER_MESSAGE {
            // A few at a time: what does not fit into the message is not read from disk.
            let some = self.try_get_log_entries(next..end.min(next + ENTRIES_PER_READ)).await?;
            if some.is_empty() {
                break;
            }
            for entry in some {
                if bytes >= BYTES_PER_MESSAGE {
                    break;
                }
                bytes += weight(&entry);
                next += 1;
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

impl RaftLogStorage<StoreTypes> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<StoreTypes>, StorageError> {
        let files = self.shared.files.lock();
        let last_purged_log_id = files.meta.meta.purged;
        let next = files.log.next();
        let last = if files.log.is_empty() {
            None
        } else {
            let payloads = files.log.read(next - 1, next).and_then(|payloads| decode(&payloads[0]));
            let entry = payloads.map_err(|error| StorageIoError::read_log_at_index(next - 1, &error))?;
            Some(*entry.get_log_id())
        };
        Ok(LogState { last_purged_log_id, last_log_id: last.or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.change(move |files| {
            let meta = Meta { vote: Some(vote), ..files.meta.meta.clone() };
            files.meta.save(meta)
        })
        .await
        .map_err(|error| StorageIoError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.files.lock().meta.meta.vote)
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<StoreTypes>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        for entry in &entries {
            if let EntryPayload::Normal(proposal) = &entry.payload {
                proposal.slot.note_logged();
            }
        }
        self.shared.recent.lock().push(&entries);
        let submitted = self.shared.submit(Job::Append { entries, done });
        submitted.map_err(|error| StorageIoError::write_logs(&error).into())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.shared.recent.lock().truncate(log_id.index);
        self.change(move |files| files.log.truncate(log_id.index))
            .await
            .map_err(|error| StorageIoError::write_logs(&error).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if let Some(snapshots) = self.shared.snapshots.get() {
            // openraft asks for this while the snapshot that a leader has sent is still on its way to the disk. A crash in
            // between would leave neither.
            snapshots.covers(log_id.index).await.map_err(|error| StorageIoError::write_logs(&error))?;
        }
        self.shared.recent.lock().purge(log_id.index);
        self.change(move |files| {
            // First the promise that they are not needed, then the files: a crash in between only leaves them longer.
            let meta = Meta { purged: Some(log_id), ..files.meta.meta.clone() };
            files.meta.save(meta)?;
            files.log.purge(log_id.index)
        })
        .await
        .map_err(|error| StorageIoError::write_logs(&error).into())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future as _, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use openraft::CommittedLeaderId;

    use super::super::disk::RealDisk;
    use super::super::replica::Replica;
    use super::*;

    #[tokio::test]
    async fn the_log_is_kept_until_the_snapshot_that_covers_it_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let snapshots = SnapshotDir::open(Arc::clone(&disk), dir.path().join("snapshot")).unwrap();
        let mut log = LogStore::open(&disk, dir.path(), 1, 1 << 16, Metrics::detached()).unwrap();
        log.hold_for(snapshots.clone());
        let last = LogId::new(CommittedLeaderId::new(1, 1), 7);
        let reader = log.clone();
        let mut purge = pin!(log.purge(last));
        assert!(poll_fn(|context| Poll::Ready(purge.as_mut().poll(context).is_pending())).await);
        assert_eq!(reader.purged(), None);
        let mut snapshot = Replica::new(1, 1, Metrics::detached()).snapshot();
        snapshot.meta.last_log_id = Some(last);
        snapshots.save(&snapshot).unwrap();
        purge.await.unwrap();
        assert_eq!(reader.purged(), Some(last));
    }

    #[tokio::test]
    async fn a_snapshot_that_cannot_be_stored_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let snapshots = SnapshotDir::open(Arc::clone(&disk), dir.path().join("snapshot")).unwrap();
        let mut log = LogStore::open(&disk, dir.path(), 1, 1 << 16, Metrics::detached()).unwrap();
        log.hold_for(snapshots.clone());
        snapshots.give_up();
        assert!(log.purge(LogId::new(CommittedLeaderId::new(1, 1), 7)).await.is_err());
        assert_eq!(log.purged(), None);
    }
}
