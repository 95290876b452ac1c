//! Handing leadership over on purpose.
//!
//! openraft 0.9 has no message for it. The leader stops taking writes, waits until the successor has the whole log, falls
//! silent for the time of the leader's lease, and asks the successor to stand: the others then vote for it at once.

use std::time::Duration;

use openraft::ServerState;
use tokio::time::Instant;

use super::intake::Intake;
use super::leader::{Leader, Leaders};
use super::peers::Peers;
use super::rpc::{Answer, Call, Refusal};
use super::timing::Timing;
use super::types::{NodeId, Raft, RaftMetrics};
use crate::backend::{Error, MemberError};

const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond the lease, for clocks that tick unevenly.
const MARGIN: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) leaders: Leaders,
    pub(crate) intake: Intake,
    pub(crate) timing: Timing,
}

impl Transfer {
    /// Hands leadership to a voter, wherever it is now.
    pub(crate) async fn move_to(&self, to: NodeId) -> Result<(), Error> {
        let deadline = Instant::now() + TRANSFER_TIMEOUT;
        let mut leaders = self.leaders.clone();
        let moved = match leaders.wait(deadline).await {
            None => return Err(Error::NoLeader),
            Some(Leader::Here) => self.hand_over(to).await.ok(),
            Some(Leader::There { id, peer }) => {
                match self.peers.call(id, &peer, Call::MoveLeader { to }, TRANSFER_TIMEOUT).await {
                    Ok(Answer::Moved(moved)) => Some(moved),
                    _ => None,
                }
            }
        };
        match moved {
            Some(Ok(())) => self.await_leader(to, deadline).await.map_err(Error::from),
            Some(Err(refusal)) => Err(refusal.into()),
            None => Err(Error::LeaderChanged),
        }
    }

    /// The voter that has most of the log, this one left out.
    pub(crate) fn successor(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics().borrow().clone();
        let own = self.peers.id();
        let others = metrics.membership_config.voter_ids().filter(|id| *id != own);
        let known = others.filter_map(|id| matching(&metrics, id).map(|matching| (matching, id)));
        known.max().map(|(_, id)| id)
    }

    /// Hands leadership over if this replica leads; returns when the successor leads.
    pub(crate) async fn hand_over(&self, to: NodeId) -> Result<Result<(), MemberError>, Refusal> {
        let metrics = self.raft.metrics().borrow().clone();
        if metrics.state != ServerState::Leader {
            return Err(Refusal::NotLeader);
        }
        if to == self.peers.id() {
            return Ok(Ok(()));
        }
        if !metrics.membership_config.voter_ids().any(|id| id == to) {
            return Ok(Err(MemberError::BadTransferee));
        }
        let pause = Pause::of(self);
        let handed = self.hand_over_silently(to).await;
        drop(pause);
        Ok(handed)
    }

    async fn hand_over_silently(&self, to: NodeId) -> Result<(), MemberError> {
        let mut metrics = self.raft.metrics();
        let caught_up = async {
            let caught_up = metrics.wait_for(|metrics| {
                metrics.state != ServerState::Leader
                    || metrics.last_log_index.is_some_and(|last| matching(metrics, to) == Some(last))
            });
            caught_up.await.ok().and_then(|metrics| metrics.membership_config.membership().get_node(&to).cloned())
        };
        let peer = tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up).await.ok().flatten();
        let Some(peer) = peer else { return Err(MemberError::TransferTimedOut) };
        self.raft.runtime_config().heartbeat(false);
        tokio::time::sleep(self.timing.lease() + MARGIN).await;
        let asked = self.peers.call(to, &peer, Call::StandForElection, self.timing.election_min).await;
        if !matches!(asked, Ok(Answer::Standing)) {
            return Err(MemberError::TransferTimedOut);
        }
        self.await_leader(to, Instant::now() + self.timing.election_max).await
    }

    async fn await_leader(&self, to: NodeId, deadline: Instant) -> Result<(), MemberError> {
        let mut metrics = self.raft.metrics();
        let leads = metrics.wait_for(|metrics| metrics.current_leader == Some(to));
        match tokio::time::timeout_at(deadline, leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(MemberError::TransferTimedOut),
        }
    }
}

/// While it lives this replica takes no writes. Then it goes on, if it is the one that still leads; also when whoever asked
/// for the hand-over has gone away in the middle of it.
struct Pause<'a> {
    transfer: &'a Transfer,
}

impl<'a> Pause<'a> {
    fn of(transfer: &'a Transfer) -> Self {
        transfer.intake.set_open(false);
        Self { transfer }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.transfer.raft.runtime_config().heartbeat(true);
        self.transfer.intake.set_open(true);
    }
}

fn matching(metrics: &RaftMetrics, id: NodeId) -> Option<u64> {
    Some(metrics.replication.as_ref()?.get(&id)?.as_ref()?.index)
}
