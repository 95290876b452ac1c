//! Changing who belongs to the group: decided by the leader, asked for anywhere.
//!
//! A newcomer is always a learner first, and gets its vote when it has caught up; a group never waits for a replica that
//! has nothing yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leader::{Leader, Leaders};
use super::peers::Peers;
use super::replica::Replica;
use super::rpc::{Answer, Call, MemberChange, Refusal};
use super::transfer::Transfer;
use super::types::{NodeId, Peer, Raft, RaftMetrics};
use crate::backend::{Error, Member, MemberError};

const CHANGE_TIMEOUT: Duration = Duration::from_secs(7);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A learner that lacks fewer entries has caught up.
const CAUGHT_UP: u64 = 1000;
/// A member that has not answered for so long does not count as started.
const ALIVE_WITHIN: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) raft: Raft,
    pub(crate) replica: Arc<Replica>,
    pub(crate) peers: Peers,
    pub(crate) leaders: Leaders,
    pub(crate) transfer: Transfer,
}

/// What came of a change at a leader.
type Changed = Result<Result<Vec<Member>, MemberError>, Refusal>;

impl Members {
    /// Brings a change to the leader. Changes can be repeated, so no outcome is hidden behind a lost answer for long.
    pub(crate) async fn change(&self, change: MemberChange) -> Result<Vec<Member>, Error> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        let mut leaders = self.leaders.clone();
        loop {
            let Some(leader) = leaders.wait(deadline).await else { return Err(Error::NoLeader) };
            let asked = tokio::time::timeout_at(deadline, self.ask(&leader, &change)).await;
            match asked {
                Ok(Ok(changed)) => return changed.map_err(Error::from),
                Ok(Err(true)) => {}
                Ok(Err(false)) => return Err(Error::LeaderLost),
                Err(_) => return Err(Error::TimedOut),
            }
            leaders.wait_for_other(&leader).await;
        }
    }

    /// The error says whether nothing was done.
    async fn ask(&self, leader: &Leader, change: &MemberChange) -> Result<Result<Vec<Member>, MemberError>, bool> {
        match leader {
            Leader::Here => {
                let changed = self.change_here(change.clone()).await;
                changed.map_err(|refusal| !matches!(refusal, Refusal::LostLeadership | Refusal::Failed { .. }))
            }
            Leader::There { id, peer } => {
                match self.peers.call(*id, peer, Call::Change(change.clone()), CHANGE_TIMEOUT).await {
                    Ok(Answer::Members(changed)) => Ok(changed),
                    Ok(_) => Err(false),
                    Err(error) => Err(error.is_not_done()),
                }
            }
        }
    }

    /// Makes a change if this replica leads.
    pub(crate) async fn change_here(&self, change: MemberChange) -> Changed {
        let metrics = self.raft.metrics().borrow().clone();
        if metrics.state != ServerState::Leader {
            return Err(Refusal::NotLeader);
        }
        let own = self.peers.id();
        let (id, change) = match check(&metrics, change, |id| id == own || self.peers.is_alive(id, ALIVE_WITHIN)) {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let ChangeMembers::RemoveVoters(leaving) = &change
            && leaving.contains(&own)
        {
            // The others had to miss this leader before they elected another; they need not.
            let successor = self.transfer.successor();
            return match successor {
                None => Ok(Err(MemberError::Unhealthy)),
                Some(successor) => match self.transfer.hand_over(successor).await {
                    Ok(Ok(())) => Err(Refusal::NotLeader),
                    Ok(Err(_)) => Ok(Err(MemberError::Unhealthy)),
                    Err(refusal) => Err(refusal),
                },
            };
        }
        let changed = tokio::time::timeout(CHANGE_TIMEOUT, self.raft.change_membership(change, false)).await;
        let Ok(changed) = changed else { return Err(Refusal::LostLeadership) };
        match changed {
            Ok(written) => {
                self.replica.applied(written.log_id.index).await;
                let members = self.replica.members();
                tracing::info!(member = id, members = members.len(), "the members of the group have changed");
                Ok(Ok(members))
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(Refusal::LostLeadership),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Ok(Err(match error {
                ChangeMembershipError::InProgress(_) => MemberError::Unhealthy,
                ChangeMembershipError::EmptyMembership(_) => MemberError::NotEnoughStarted,
                ChangeMembershipError::LearnerNotFound(_) => MemberError::NotFound,
            })),
            Err(RaftError::Fatal(fatal)) => Err(Refusal::Failed { reason: fatal.to_string() }),
        }
    }

    /// While this replica leads: promotes learners that have caught up and are to be promoted, and ends a change that an
    /// earlier leader left half done.
    pub(crate) async fn tend(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.state != ServerState::Leader {
                continue;
            }
            let membership = metrics.membership_config.membership();
            if membership.get_joint_config().len() > 1 {
                // Nothing is added, and the half-done change is completed. openraft refuses it while it is not committed.
                let finish = self.raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), false);
                if let Ok(Err(error)) = tokio::time::timeout(CHANGE_TIMEOUT, finish).await {
                    tracing::debug!(%error, "a change of members cannot be completed now");
                }
                continue;
            }
            let voters: BTreeSet<_> = membership.voter_ids().collect();
            let ready = membership.nodes().find(|(id, peer)| {
                peer.promote && !voters.contains(*id) && lag(&metrics, **id).is_some_and(|lag| lag < CAUGHT_UP)
            });
            if let Some((id, _)) = ready
                && let Err(refusal) = self.change_here(MemberChange::Promote(*id)).await
            {
                tracing::debug!(%refusal, learner = *id, "a learner cannot be promoted now");
            }
        }
    }
}

/// How many entries a replica lacks; `None` while that is not known.
fn lag(metrics: &RaftMetrics, id: NodeId) -> Option<u64> {
    let matching = metrics.replication.as_ref()?.get(&id)?.as_ref()?.index;
    Some(metrics.last_log_index?.saturating_sub(matching))
}

/// Checks a change against the members as they are, and says it in openraft's words.
fn check(
    metrics: &RaftMetrics,
    change: MemberChange,
    is_alive: impl Fn(NodeId) -> bool,
) -> Result<(NodeId, ChangeMembers<NodeId, Peer>), MemberError> {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<_> = membership.voter_ids().collect();
    let node = |id: NodeId| membership.get_node(&id).ok_or(MemberError::NotFound);
    let taken = |urls: &[String], but: NodeId| {
        membership.nodes().any(|(id, peer)| *id != but && peer.urls.iter().any(|url| urls.contains(url)))
    };
    let usable = |urls: &[String]| !urls.is_empty() && urls.iter().all(|url| is_url(url));
    Ok(match change {
        MemberChange::Add(member) => {
            if !usable(&member.peer_urls) {
                return Err(MemberError::BadUrls);
            }
            if node(member.id).is_ok() {
                return Err(MemberError::Exists);
            }
            if taken(&member.peer_urls, 0) {
                return Err(MemberError::PeerUrlExists);
            }
            (member.id, ChangeMembers::AddNodes(BTreeMap::from([(member.id, Peer::from(member))])))
        }
        MemberChange::Remove(id) => {
            node(id)?;
            if !voters.contains(&id) {
                return Ok((id, ChangeMembers::RemoveNodes(BTreeSet::from([id]))));
            }
            let left: Vec<_> = voters.iter().copied().filter(|voter| *voter != id).collect();
            let started = left.iter().filter(|voter| is_alive(**voter)).count();
            if left.is_empty() || started * 2 <= left.len() {
                return Err(MemberError::NotEnoughStarted);
            }
            (id, ChangeMembers::RemoveVoters(BTreeSet::from([id])))
        }
        MemberChange::Promote(id) => {
            node(id)?;
            if voters.contains(&id) {
                return Err(MemberError::NotLearner);
            }
            if lag(metrics, id).is_none_or(|lag| lag >= CAUGHT_UP) {
                return Err(MemberError::LearnerNotReady);
            }
            (id, ChangeMembers::AddVoterIds(BTreeSet::from([id])))
        }
        MemberChange::Update { id, peer_urls } => {
            let peer = node(id)?.clone();
            if !usable(&peer_urls) {
                return Err(MemberError::BadUrls);
            }
            if taken(&peer_urls, id) {
                return Err(MemberError::PeerUrlExists);
            }
            (id, ChangeMembers::SetNodes(BTreeMap::from([(id, Peer { urls: peer_urls, ..peer })])))
        }
        MemberChange::Publish { id, name, client_urls } => {
            let peer = node(id)?.clone();
            (id, ChangeMembers::SetNodes(BTreeMap::from([(id, Peer { name, client_urls, ..peer })])))
        }
    })
}

/// As etcd checks them: a scheme, a host and a port, no path.
fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else { return false };
    !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use openraft::StoredMembership;

    use super::*;

    fn metrics() -> RaftMetrics {
        let mut metrics = RaftMetrics::new_initial(1);
        let nodes = (1..=4).map(|id| {
            let urls = vec![format!("https://10.0.0.{id}:2380")];
            (id, Peer { urls, ..Peer::default() })
        });
        let membership = openraft::Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes.collect::<BTreeMap<_, _>>());
        metrics.membership_config = Arc::new(StoredMembership::new(None, membership));
        metrics
    }

    fn refusal(change: MemberChange, alive: &[NodeId]) -> Option<MemberError> {
        check(&metrics(), change, |id| alive.contains(&id)).err()
    }

    #[test]
    fn a_change_that_makes_no_sense_is_refused_as_etcd_refuses_it() {
        let member = |id, url: &str| Member { id, peer_urls: vec![url.to_owned()], ..Member::default() };
        let all = [1, 2, 3, 4];
        assert_eq!(refusal(MemberChange::Add(member(4, "https://10.0.0.9:2380")), &all), Some(MemberError::Exists));
        assert_eq!(
            refusal(MemberChange::Add(member(5, "https://10.0.0.1:2380")), &all),
            Some(MemberError::PeerUrlExists)
        );
        for url in ["", "10.0.0.9:2380", "https://10.0.0.9", "https://:2380", "https://10.0.0.9:port"] {
            assert_eq!(refusal(MemberChange::Add(member(5, url)), &all), Some(MemberError::BadUrls), "{url}");
        }
        assert_eq!(refusal(MemberChange::Add(member(5, "https://10.0.0.9:2380")), &all), None);
        assert_eq!(refusal(MemberChange::Remove(9), &all), Some(MemberError::NotFound));
        assert_eq!(refusal(MemberChange::Promote(2), &all), Some(MemberError::NotLearner));
        assert_eq!(refusal(MemberChange::Promote(4), &all), Some(MemberError::LearnerNotReady));
    }

    #[test]
    fn a_voter_is_removed_only_while_a_quorum_of_the_rest_has_started() {
        assert_eq!(refusal(MemberChange::Remove(3), &[1, 2]), None);
        assert_eq!(refusal(MemberChange::Remove(2), &[1, 2]), Some(MemberError::NotEnoughStarted));
        assert_eq!(refusal(MemberChange::Remove(4), &[1]), None, "a learner costs no quorum");
    }
}
