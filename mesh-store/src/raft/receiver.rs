//! Serving the calls of other replicas.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use openraft::raft::AppendEntriesResponse;

use super::election::Election;
use super::intake::Intake;
use super::leadership::Leadership;
use super::members::Members;
use super::peers::Peers;
use super::read_index::ReadIndex;
use super::rpc::{self, Answer, Call, Envelope, Refusal};
use super::snapshot_receive::SnapshotReceiver;
use super::start::Starter;
use super::transfer::Transfer;
use super::types::Raft;

/// Where a transport delivers the calls of other replicas. It does not keep the replica alive: calls to one that is gone are
/// refused.
#[derive(Clone)]
pub struct Receiver {
    pub(crate) parts: Weak<Parts>,
}

pub(crate) struct Parts {
    pub(crate) peers: Peers,
    pub(crate) raft: Raft,
    pub(crate) election: Arc<Election>,
    pub(crate) snapshots: SnapshotReceiver,
    pub(crate) reads: ReadIndex,
    pub(crate) intake: Intake,
    pub(crate) leadership: Leadership,
    pub(crate) members: Members,
    pub(crate) transfer: Transfer,
    pub(crate) starter: Starter,
}

impl Receiver {
    /// Serves one call and returns the answer to it. `is_from` says whether the caller is the replica of that id: the
    /// transport knows whom it talks to, the message only claims it.
    pub fn receive<'a>(
        &'a self,
        message: &'a [u8],
        is_from: impl FnOnce(u64) -> bool + Send + 'a,
    ) -> BoxFuture<'a, Bytes> {
        async move {
            let answer = match (self.parts.upgrade(), rpc::decode::<Envelope>(message)) {
                (None, _) => Answer::Refused(Refusal::NotAdmitted),
                (_, None) => Answer::Refused(Refusal::Unreadable),
                (Some(parts), Some(envelope)) => match parts.check(&envelope, is_from) {
                    Err(refusal) => Answer::Refused(refusal),
                    Ok(()) => parts.serve(envelope).await,
                },
            };
            // Every answer is small but for its error texts, and those are too.
            rpc::encode(&answer).unwrap_or_default()
        }
        .boxed()
    }
}

impl Parts {
    fn check(&self, envelope: &Envelope, is_from: impl FnOnce(u64) -> bool) -> Result<(), Refusal> {
        let id = self.peers.id();
        if !is_from(envelope.from) {
            return Err(Refusal::Impostor { claimed: envelope.from });
        }
        if envelope.to != id {
            return Err(Refusal::OtherReplica { id });
        }
        if matches!(envelope.call, Call::Found { .. } | Call::Join { .. }) {
            return Ok(());
        }
        let (own, asked) = (self.peers.cluster_id(), envelope.cluster_id);
        if own == 0 {
            return Err(Refusal::NotAdmitted);
        }
        if own != asked {
            return Err(Refusal::OtherCluster { id, own, asked });
        }
        // Who belongs to the group, its leader knows; the others may be behind.
        let for_leader = matches!(
            envelope.call,
            Call::ReadIndex
                | Call::Propose(_)
                | Call::RenewLease(_)
                | Call::LeaseTimeLeft(_)
                | Call::Change(_)
                | Call::MoveLeader { .. }
        );
        let metrics = self.raft.metrics();
        if for_leader && metrics.borrow().membership_config.membership().get_node(&envelope.from).is_none() {
            return Err(Refusal::NotMember);
        }
        Ok(())
    }

    async fn serve(&self, envelope: Envelope) -> Answer {
        let answer = match envelope.call {
            Call::Append(request) => {
                let appended = self.raft.append_entries(request).await;
                if let Ok(response) = &appended
                    && !matches!(response, AppendEntriesResponse::HigherVote(_))
                {
                    self.election.hear();
                }
                appended.map(Answer::Append).map_err(failed)
            }
            Call::Vote(request) => {
                let voted = self.raft.vote(request).await;
                if voted.as_ref().is_ok_and(|response| response.vote_granted) {
                    // Give the one that was voted for its time.
                    self.election.hear();
                }
                voted.map(Answer::Vote).map_err(failed)
            }
            Call::PreVote { last_log_id } => Ok(Answer::PreVote { granted: self.election.would_vote(last_log_id) }),
            Call::Snapshot(chunk) => {
                let progress = self.snapshots.take(chunk).await;
                if progress.is_ok() {
                    self.election.hear();
                }
                progress.map(Answer::Snapshot).map_err(failed)
            }
            Call::ReadIndex => self.reads.ask_here().await.map(|index| Answer::ReadIndex { index }),
            Call::Propose(part) => self.intake.offer(part).await.map(|()| Answer::Applied),
            Call::RenewLease(id) => self.leadership.renew(id).await.map(Answer::Renewed),
            Call::LeaseTimeLeft(id) => self.leadership.time_left(id).await.map(|left| Answer::LeaseTimeLeft {
                milliseconds: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            }),
            Call::Change(change) => self.members.change_here(change).await.map(Answer::Members),
            Call::MoveLeader { to } => self.transfer.hand_over(to).await.map(Answer::Moved),
            Call::StandForElection => self.raft.trigger().elect().await.map(|()| Answer::Standing).map_err(failed),
            Call::Found { cluster_id, members } => Ok(self.starter.agree(cluster_id, &members).await),
            Call::Join { id } => Ok(self.starter.admit(id, envelope.from).await),
        };
        answer.unwrap_or_else(Answer::Refused)
    }
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Failed { reason: error.to_string() }
}
