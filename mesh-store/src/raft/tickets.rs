//! The parts of this replica's clients that are under way, and the clients that wait for them.
//!
//! The state machine answers them here, on the replica that the clients talk to: whoever got an answer also reads its own
//! write from this replica.

use std::collections::BTreeMap;

use mesh_store_mvcc::Response;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::sessions::Sessions;
use super::types::{CommandResult, NodeId, Ticket};
use crate::backend::Error;

pub(crate) type Reply = oneshot::Sender<Result<Response, Error>>;

pub(crate) struct Tickets {
    replica: NodeId,
    boot: u64,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    last: u64,
    /// Written by the batcher, taken by whoever answers first.
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    replies: Vec<Reply>,
    /// Dropped with the rest when the clients have been answered.
    _done: oneshot::Sender<()>,
    _permit: OwnedSemaphorePermit,
}

impl Tickets {
    pub(crate) fn new(replica: NodeId, boot: u64) -> Self {
        Self { replica, boot, pending: Mutex::default() }
    }

    /// A ticket for a new part. The receiver resolves when its clients have been answered.
    pub(crate) fn issue(&self, replies: Vec<Reply>, permit: OwnedSemaphorePermit) -> (Ticket, oneshot::Receiver<()>) {
        let (done, answered) = oneshot::channel();
        let mut pending = self.pending.lock();
        pending.last += 1;
        let seq = pending.last;
        pending.waiting.insert(seq, Waiting { replies, _done: done, _permit: permit });
        let oldest = pending.waiting.keys().next().copied().unwrap_or(seq);
        (Ticket { replica: self.replica, boot: self.boot, seq, answered: oldest }, answered)
    }

    /// Answers the clients of a part that has just been executed, if they are clients of this run of this replica.
    pub(crate) fn complete(&self, ticket: &Ticket, results: Vec<CommandResult>) {
        if ticket.replica != self.replica || ticket.boot != self.boot {
            return;
        }
        let waiting = self.pending.lock().waiting.remove(&ticket.seq);
        for (reply, result) in waiting.into_iter().flat_map(|waiting| waiting.replies).zip(results) {
            // A client that has gone away does not want its answer.
            drop(reply.send(result.map_err(Error::from)));
        }
    }

    pub(crate) fn fail(&self, seq: u64, error: &Error) {
        let waiting = self.pending.lock().waiting.remove(&seq);
        for reply in waiting.into_iter().flat_map(|waiting| waiting.replies) {
            drop(reply.send(Err(error.clone())));
        }
    }

    /// A snapshot took the place of the entries that would have answered: what became of the parts in it is not known.
    pub(crate) fn skip(&self, sessions: &Sessions) {
        let skipped: Vec<_> = {
            let pending = self.pending.lock();
            let settled = |seq: &&u64| sessions.settled(self.replica, self.boot, **seq);
            pending.waiting.keys().filter(settled).copied().collect()
        };
        for seq in skipped {
            self.fail(seq, &Error::LeaderLost);
        }
    }
}
