//! Linearizable reads: which entry a read that starts now must have seen.
//!
//! The leader answers with its commit index, after a quorum has confirmed that it still leads. A leader that has not
//! committed an entry of its own term yet may not know what was acknowledged before it: then the answer is its first own
//! entry. openraft's `get_read_log_id` sees to that but for a leader that leads on after a restart, which `LogStore::open`
//! prevents (the simulation found it). Reads that arrive while a question is under way share the next one.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leader::{Leader, Leaders};
use super::peers::Peers;
use super::rpc::{Answer, Call, Refusal};
use super::types::Raft;
use crate::backend::Error;

/// As etcd's: five seconds, and two elections.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(7);
/// A question to the leader that is not answered by then is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
const READS_WAITING: usize = 64 * 1024;

type Reply = oneshot::Sender<Result<u64, Refusal>>;

#[derive(Clone)]
pub(crate) struct ReadIndex {
    questions: mpsc::Sender<Reply>,
    leaders: Leaders,
}

/// The other end, to be run as a task.
pub(crate) struct Asker {
    questions: mpsc::Receiver<Reply>,
    raft: Raft,
    peers: Peers,
    leaders: Leaders,
}

pub(crate) fn channel(raft: &Raft, peers: &Peers, leaders: &Leaders) -> (ReadIndex, Asker) {
    let (sender, receiver) = mpsc::channel(READS_WAITING);
    let asker = Asker { questions: receiver, raft: raft.clone(), peers: peers.clone(), leaders: leaders.clone() };
    (ReadIndex { questions: sender, leaders: leaders.clone() }, asker)
}

impl ReadIndex {
    /// The index of the entry that must be applied before a read that starts now is answered.
    pub(crate) async fn confirm(&self) -> Result<u64, Error> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut leaders = self.leaders.clone();
        loop {
            let Some(leader) = leaders.wait(deadline).await else { return Err(Error::NoLeader) };
            match tokio::time::timeout_at(deadline, self.ask()).await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(Refusal::Failed { reason })) => return Err(Error::Failed { reason }),
                Ok(Err(refusal)) => tracing::debug!(%refusal, "linearizable read refused, asking again"),
                Err(_) => return Err(Error::TimedOut),
            }
            leaders.wait_for_other(&leader).await;
        }
    }

    /// One question to this replica, which answers if it leads: never passed on a second time.
    pub(crate) async fn ask_here(&self) -> Result<u64, Refusal> {
        if self.leaders.known() == Some(Leader::Here) { self.ask().await } else { Err(Refusal::NotLeader) }
    }

    /// One question, to whoever leads now.
    pub(crate) async fn ask(&self) -> Result<u64, Refusal> {
        let (reply, answer) = oneshot::channel();
        // Full means that tens of thousands wait: the next attempt is as good as this one.
        self.questions.try_send(reply).ok().ok_or(Refusal::NotLeader)?;
        answer.await.unwrap_or(Err(Refusal::NotLeader))
    }
}

impl Asker {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut waiting = Vec::new();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = self.questions.recv_many(&mut waiting, READS_WAITING) => asked,
            };
            if asked == 0 {
                return;
            }
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = self.answer() => answer,
            };
            for reply in waiting.drain(..) {
                // A reader that has gone away does not want its answer.
                drop(reply.send(answer.clone()));
            }
        }
    }

    async fn answer(&self) -> Result<u64, Refusal> {
        match self.leaders.known() {
            None => Err(Refusal::NotLeader),
            Some(Leader::Here) => {
                let asked = tokio::time::timeout(ASK_TIMEOUT, self.raft.get_read_log_id()).await;
                let (log_id, _) = asked.ok().ok_or(Refusal::NotLeader)?.map_err(|error| match error.fatal() {
                    Some(fatal) => Refusal::Failed { reason: fatal.to_string() },
                    None => Refusal::NotLeader,
                })?;
                Ok(log_id.map_or(0, |log_id| log_id.index))
            }
            Some(Leader::There { id, peer }) => match self.peers.call(id, &peer, Call::ReadIndex, ASK_TIMEOUT).await {
                Ok(Answer::ReadIndex { index }) => Ok(index),
                _ => Err(Refusal::NotLeader),
            },
        }
    }
}
