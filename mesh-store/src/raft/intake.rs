//! On the leader: from the parts of all replicas to log entries.
//!
//! Parts that arrive while two entries are on their way to the disk wait and travel together in the next one. On a replica
//! that does not lead, parts are refused.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use openraft::error::ClientWriteError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::rpc::Refusal;
use super::types::{Content, Part, Proposal, Raft, Slot};
use crate::metrics::Metrics;

const ENTRIES_UNDER_WAY: usize = 2;
const BYTES_PER_ENTRY: usize = 4 << 20;
const PARTS_PER_ENTRY: usize = 256;
const PARTS_WAITING: usize = 1024;

struct Offered {
    part: Part,
    outcome: oneshot::Sender<Result<(), Refusal>>,
}

#[derive(Clone)]
pub(crate) struct Intake {
    queue: mpsc::Sender<Offered>,
    open: watch::Sender<bool>,
}

/// The other end, to be run as a task.
pub(crate) struct Composer {
    queue: mpsc::Receiver<Offered>,
    raft: Raft,
    metrics: Metrics,
}

pub(crate) fn channel(raft: &Raft, metrics: &Metrics) -> (Intake, Composer) {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING);
    let intake = Intake { queue: sender, open: watch::channel(true).0 };
    (intake, Composer { queue: receiver, raft: raft.clone(), metrics: metrics.clone() })
}

impl Intake {
    /// Resolves when the part is applied here, or when this replica will not see to it.
    pub(crate) async fn offer(&self, part: Part) -> Result<(), Refusal> {
        if !*self.open.borrow() {
            return Err(Refusal::NotLeader);
        }
        let (outcome, result) = oneshot::channel();
        self.queue.send(Offered { part, outcome }).await.ok().ok_or(Refusal::NotLeader)?;
        result.await.unwrap_or(Err(Refusal::LostLeadership))
    }

    /// While it is closed every part is refused: leadership is being handed over.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Composer {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(ENTRIES_UNDER_WAY));
        let mut under_way = FuturesUnordered::new();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = under_way.next(), if !under_way.is_empty() => continue,
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { return };
            let permit = loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(()) = under_way.next(), if !under_way.is_empty() => {}
                    permit = Arc::clone(&room).acquire_owned() => break permit,
                }
            };
            let Ok(permit) = permit else { return };
            let (parts, outcomes) = self.gather(first);
            let slot = Slot::new(permit);
            let proposal = Proposal { content: Content::Parts(parts.into()), slot: slot.clone() };
            self.metrics.proposals.inc();
            match self.raft.client_write_ff(proposal).await {
                Ok(written) => under_way.push(async move {
                    let result = match written.await {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(ClientWriteError::ForwardToLeader(_))) if !slot.is_logged() => Err(Refusal::NotLeader),
                        Ok(Err(_)) | Err(_) => Err(Refusal::LostLeadership),
                    };
                    slot.release();
                    for outcome in outcomes {
                        // Whoever offered the part may have given up.
                        drop(outcome.send(result.clone()));
                    }
                }),
                Err(fatal) => {
                    for outcome in outcomes {
                        drop(outcome.send(Err(Refusal::Failed { reason: fatal.to_string() })));
                    }
                }
            }
        }
    }

    fn gather(&mut self, first: Offered) -> (Vec<Part>, Vec<oneshot::Sender<Result<(), Refusal>>>) {
        let mut bytes = first.part.weight();
        let mut parts = vec![first.part];
        let mut outcomes = vec![first.outcome];
        while parts.len() < PARTS_PER_ENTRY && bytes < BYTES_PER_ENTRY {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.part.weight();
            parts.push(next.part);
            outcomes.push(next.outcome);
        }
        (parts, outcomes)
    }
}
