//! From many clients to one log entry: group commit.
//!
//! Commands that arrive while an entry is on its way to the disk wait and travel together in the next one. Two entries may
//! be under way, so that the disk is busy with one while the other is applied and answered.

use std::sync::Arc;

use mesh_store_mvcc::{Command, Response};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::types::{Content, Proposal, Raft, Waiters};
use crate::backend::Error;
use crate::metrics::Metrics;

const ENTRIES_UNDER_WAY: usize = 2;
const COMMANDS_PER_ENTRY: usize = 2048;
const BYTES_PER_ENTRY: usize = 4 << 20;
const COMMANDS_WAITING: usize = 16 * 1024;

struct Pending {
    command: Command,
    reply: oneshot::Sender<Result<Response, Error>>,
}

#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Pending>,
}

/// The other end of the [`Proposer`]s, to be run as a task.
pub(crate) struct Batcher {
    queue: mpsc::Receiver<Pending>,
    raft: Raft,
    metrics: Metrics,
}

pub(crate) fn channel(raft: Raft, metrics: Metrics) -> (Proposer, Batcher) {
    let (sender, receiver) = mpsc::channel(COMMANDS_WAITING);
    (Proposer { queue: sender }, Batcher { queue: receiver, raft, metrics })
}

impl Proposer {
    /// Resolves when the command is durable and applied.
    pub(crate) async fn propose(&self, command: Command) -> Result<Response, Error> {
        let (reply, result) = oneshot::channel();
        self.queue.try_send(Pending { command, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        result.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Batcher {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(ENTRIES_UNDER_WAY));
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { return };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let (commands, replies) = self.gather(first);
            let waiters = Waiters::new(replies, permit);
            let proposal = Proposal { content: Content::Commands(commands.into()), waiters: waiters.clone() };
            self.metrics.proposals.inc();
            if let Err(fatal) = self.raft.client_write_ff(proposal).await {
                waiters.fail(&Error::Failed { reason: fatal.to_string() });
            }
        }
    }

    fn gather(&mut self, first: Pending) -> (Vec<Command>, Vec<oneshot::Sender<Result<Response, Error>>>) {
        let mut bytes = first.command.weight();
        let mut commands = vec![first.command];
        let mut replies = vec![first.reply];
        while commands.len() < COMMANDS_PER_ENTRY && bytes < BYTES_PER_ENTRY {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.command.weight();
            commands.push(next.command);
            replies.push(next.reply);
        }
        (commands, replies)
    }
}
