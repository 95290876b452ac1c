//! Receiving a snapshot from the leader, chunk by chunk, and installing it.

use std::time::Duration;

use openraft::Snapshot;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, watch};
use tokio_util::task::TaskTracker;

use super::disk::DiskCursor;
use super::rpc::{SnapshotChunk, SnapshotProgress};
use super::snapshot;
use super::types::{Raft, Vote};

/// How long the sender of the last chunk waits for the installation before it is told to ask again.
const INSTALL_PATIENCE: Duration = Duration::from_millis(500);

pub(crate) struct SnapshotReceiver {
    raft: Raft,
    tasks: TaskTracker,
    transfer: Mutex<Option<Transfer>>,
}

struct Transfer {
    vote: Vote,
    snapshot_id: String,
    received: u64,
    stage: Stage,
}

enum Stage {
    Receiving(Box<DiskCursor>),
    /// `None` while it is under way.
    Installing(watch::Receiver<Option<Result<Vote, String>>>),
}

impl SnapshotReceiver {
    pub(crate) fn new(raft: Raft, tasks: TaskTracker) -> Self {
        Self { raft, tasks, transfer: Mutex::new(None) }
    }

    /// Takes a chunk. A chunk that is not the next one changes nothing; the answer says which is.
    pub(crate) async fn take(&self, chunk: SnapshotChunk) -> Result<SnapshotProgress, String> {
        let vote = self.raft.metrics().borrow().vote;
        if vote > chunk.vote {
            return Ok(SnapshotProgress { vote, received: 0, installed: false });
        }
        let mut current = self.transfer.lock().await;
        let same = |transfer: &Transfer| transfer.vote == chunk.vote && transfer.snapshot_id == chunk.meta.snapshot_id;
        if !current.as_ref().is_some_and(same) {
            if chunk.offset != 0 {
                return Ok(SnapshotProgress { vote: chunk.vote, received: 0, installed: false });
            }
            let file = self.raft.begin_receiving_snapshot().await.map_err(|error| error.to_string())?;
            let snapshot_id = chunk.meta.snapshot_id.clone();
            *current = Some(Transfer { vote: chunk.vote, snapshot_id, received: 0, stage: Stage::Receiving(file) });
        }
        let Some(transfer) = current.as_mut() else { return Err("no transfer".to_owned()) };
        if let Stage::Receiving(file) = &mut transfer.stage
            && chunk.offset == transfer.received
        {
            file.write_all(&chunk.bytes).await.map_err(|error| error.to_string())?;
            transfer.received += chunk.bytes.len() as u64;
            if transfer.received == chunk.total {
                file.flush().await.map_err(|error| error.to_string())?;
                self.install(transfer, &chunk);
            }
        }
        let received = transfer.received;
        let Stage::Installing(installing) = &transfer.stage else {
            return Ok(SnapshotProgress { vote: chunk.vote, received, installed: false });
        };
        let mut installing = installing.clone();
        drop(current);
        let done = tokio::time::timeout(INSTALL_PATIENCE, installing.wait_for(Option::is_some)).await;
        let result = done.ok().and_then(Result::ok).and_then(|result| result.clone());
        match result {
            None => Ok(SnapshotProgress { vote: chunk.vote, received, installed: false }),
            Some(Ok(vote)) => Ok(SnapshotProgress { vote, received, installed: true }),
            Some(Err(reason)) => {
                *self.transfer.lock().await = None;
                Err(reason)
            }
        }
    }

    fn install(&self, transfer: &mut Transfer, chunk: &SnapshotChunk) {
        let (done, installing) = watch::channel(None);
        let stage = std::mem::replace(&mut transfer.stage, Stage::Installing(installing));
        let Stage::Receiving(file) = stage else { return };
        let (raft, vote, meta) = (self.raft.clone(), chunk.vote, chunk.meta.clone());
        self.tasks.spawn(async move {
            // openraft takes a snapshot that cannot be installed for a broken disk, and ends: a damaged one is refused first.
            let result = match check(file).await {
                Err(reason) => Err(format!("the snapshot that was received is damaged: {reason}")),
                Ok(file) => {
                    let installed = raft.install_full_snapshot(vote, Snapshot { meta, snapshot: file }).await;
                    installed.map(|response| response.vote).map_err(|fatal| fatal.to_string())
                }
            };
            done.send_replace(Some(result));
        });
    }
}

async fn check(mut file: Box<DiskCursor>) -> Result<Box<DiskCursor>, String> {
    let unread = |error: std::io::Error| error.to_string();
    let mut bytes = Vec::new();
    file.rewind().await.map_err(unread)?;
    file.read_to_end(&mut bytes).await.map_err(unread)?;
    snapshot::check(&bytes)?;
    Ok(file)
}
