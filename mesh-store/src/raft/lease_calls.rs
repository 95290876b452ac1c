//! Keep-alives and questions about leases, from whatever replica they are asked at to the leader.

use std::time::Duration;

use mesh_store_mvcc::LeaseId;
use tokio::time::Instant;

use super::leader::{Leader, Leaders};
use super::leadership::Leadership;
use super::peers::Peers;
use super::rpc::{Answer, Call};
use crate::backend::Error;

/// As etcd's: five seconds, and two elections.
const LEASE_TIMEOUT: Duration = Duration::from_secs(7);
/// A question to the leader that is not answered by then is asked again; it does no harm to ask twice.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct LeaseCalls {
    pub(crate) peers: Peers,
    pub(crate) leaders: Leaders,
    pub(crate) leadership: Leadership,
}

#[derive(Clone, Copy)]
enum Question {
    Renew,
    TimeLeft,
}

enum Reply {
    Renewed(Option<i64>),
    TimeLeft(Duration),
}

impl LeaseCalls {
    /// Starts the lease's time anew; `None` if there is no such lease.
    pub(crate) async fn renew(&self, id: LeaseId) -> Result<Option<i64>, Error> {
        match self.ask(Question::Renew, id).await? {
            Reply::Renewed(ttl) => Ok(ttl),
            Reply::TimeLeft(_) => Err(garbled()),
        }
    }

    pub(crate) async fn time_left(&self, id: LeaseId) -> Result<Duration, Error> {
        match self.ask(Question::TimeLeft, id).await? {
            Reply::TimeLeft(left) => Ok(left),
            Reply::Renewed(_) => Err(garbled()),
        }
    }

    async fn ask(&self, question: Question, id: LeaseId) -> Result<Reply, Error> {
        let deadline = Instant::now() + LEASE_TIMEOUT;
        let mut leaders = self.leaders.clone();
        loop {
            let Some(leader) = leaders.wait(deadline).await else { return Err(Error::NoLeader) };
            let asked = tokio::time::timeout(ASK_TIMEOUT, self.ask_leader(&leader, question, id)).await;
            if let Ok(Some(reply)) = asked {
                return Ok(reply);
            }
            if Instant::now() >= deadline {
                return Err(Error::TimedOut);
            }
            leaders.wait_for_other(&leader).await;
        }
    }

    async fn ask_leader(&self, leader: &Leader, question: Question, id: LeaseId) -> Option<Reply> {
        match (leader, question) {
            (Leader::Here, Question::Renew) => self.leadership.renew(id).await.ok().map(Reply::Renewed),
            (Leader::Here, Question::TimeLeft) => self.leadership.time_left(id).await.ok().map(Reply::TimeLeft),
            (Leader::There { id: leader, peer }, question) => {
                let call = match question {
                    Question::Renew => Call::RenewLease(id),
                    Question::TimeLeft => Call::LeaseTimeLeft(id),
                };
                match self.peers.call(*leader, peer, call, ASK_TIMEOUT).await.ok()? {
                    Answer::Renewed(ttl) => Some(Reply::Renewed(ttl)),
                    Answer::LeaseTimeLeft { milliseconds } => {
                        Some(Reply::TimeLeft(Duration::from_millis(milliseconds)))
                    }
                    _ => None,
                }
            }
        }
    }
}

fn garbled() -> Error {
    Error::Failed { reason: "the leader answered another question".to_owned() }
}
