//! How an empty replica becomes part of a group, and how one that has lost its data is kept from it.
//!
//! A voter that lost its log and its vote would break what the others rely on: it could vote twice in a term, or found the
//! group a second time. So a group is founded only while *all* its first members are up and empty, each remembers that it
//! agreed, and from then on an empty replica gets in as a new learner only. One that the group knows already is refused,
//! and says what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::error::{InitializeError, RaftError};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use super::leader::{Leader, Leaders};
use super::log_store::LogStore;
use super::peers::{CallError, Peers};
use super::rpc::{Answer, Call, Refusal};
use super::types::{NodeId, Peer, Raft};
use crate::backend::Member;

const CALL_TIMEOUT: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What an empty replica does. One that has data goes on with it, whatever is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Founds a group of one.
    #[default]
    Alone,
    /// Founds a group with others that are told the same: every member, this one included. Waits until all are there.
    Together { members: Vec<Member> },
    /// Joins a group that has been told of this replica (`member_add`): the replicas to ask.
    Join { members: Vec<Member> },
}

/// Why an empty replica cannot become part of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(
        "replica {id} has no data, but the group of cluster {cluster_id:016x} knows it: its data is lost. Remove the member \
         from the group, add it again, and start it to join"
    )]
    Wiped { id: u64, cluster_id: u64 },
    #[error("replica {id} is not among the members that are to found the group: {members:?}")]
    NotAmongMembers { id: u64, members: Vec<u64> },
    #[error("replica {id} was told to found a group of {members:?}, which is not what this one was told")]
    MembersDiffer { id: u64, members: Vec<u64> },
    #[error("the replica failed: {reason}")]
    Failed { reason: String },
}

/// Everything the start of a replica works with.
#[derive(Clone)]
pub(crate) struct Starter {
    pub(crate) member: Member,
    pub(crate) start: Start,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) peers: Peers,
    pub(crate) leaders: Leaders,
}

impl Starter {
    /// Returns when this replica belongs to a group.
    pub(crate) async fn run(&self, seed: u64, stop: &CancellationToken) -> Result<(), StartError> {
        let initialized = self.raft.is_initialized().await.map_err(failed)?;
        if initialized {
            return Ok(());
        }
        let settle = async {
            match &self.start {
                Start::Alone => self.found(std::slice::from_ref(&self.member), seed).await,
                Start::Together { members } => self.found(members, seed).await,
                // An earlier run was admitted, and has got nothing since.
                Start::Join { .. } if self.peers.cluster_id() != 0 => Ok(()),
                Start::Join { members } => self.join(members).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Err(StartError::Failed { reason: "it was stopped".to_owned() }),
            settled = settle => settled,
        }
    }

    async fn found(&self, members: &[Member], seed: u64) -> Result<(), StartError> {
        let own = self.member.id;
        let ids = ids(members);
        if !ids.contains(&own) {
            return Err(StartError::NotAmongMembers { id: own, members: ids });
        }
        if ids.first() != Some(&own) {
            return self.await_founder(members).await;
        }
        // An earlier run may have got so far. Never 0, which stands for none.
        let cluster_id = match self.peers.cluster_id() {
            0 => StdRng::seed_from_u64(seed).random_range(1..=u64::MAX),
            known => known,
        };
        // All in one round: an answer that a member is empty is worth nothing once another has moved on.
        for member in members.iter().filter(|member| member.id != own) {
            let peer = Peer::from(member.clone());
            loop {
                let call = Call::Found { cluster_id, members: ids.clone() };
                match self.peers.call(member.id, &peer, call, CALL_TIMEOUT).await {
                    Ok(Answer::Agreed) => break,
                    Err(CallError::Refused { refusal: Refusal::Wiped { cluster_id }, .. }) => {
                        return Err(StartError::Wiped { id: own, cluster_id });
                    }
                    Err(CallError::Refused { refusal: Refusal::OtherMembers { members }, .. }) => {
                        return Err(StartError::MembersDiffer { id: member.id, members });
                    }
                    Ok(_) | Err(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        }
        self.adopt(cluster_id).await?;
        let nodes: BTreeMap<_, _> =
            members.iter().map(|member| (member.id, Peer { promote: false, ..Peer::from(member.clone()) })).collect();
        match self.raft.initialize(nodes).await {
            // A message of a leader came first: there is a group already.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The founder asks; here it is only found out whether there is a group already.
    async fn await_founder(&self, members: &[Member]) -> Result<(), StartError> {
        while self.peers.cluster_id() == 0 {
            self.ask_to_join(members).await?;
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    async fn join(&self, members: &[Member]) -> Result<(), StartError> {
        loop {
            if let Some(cluster_id) = self.ask_to_join(members).await? {
                return self.adopt(cluster_id).await;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The number of the group that expects this replica, if one of the members leads such a one.
    async fn ask_to_join(&self, members: &[Member]) -> Result<Option<u64>, StartError> {
        for member in members.iter().filter(|member| member.id != self.member.id) {
            let call = Call::Join { id: self.member.id };
            match self.peers.call(member.id, &Peer::from(member.clone()), call, CALL_TIMEOUT * 2).await {
                Ok(Answer::Admitted { cluster_id }) => return Ok(Some(cluster_id)),
                // While the question was under way this replica may have agreed to what the group was then founded on.
                Err(CallError::Refused { refusal: Refusal::Wiped { cluster_id }, .. })
                    if self.peers.cluster_id() == 0 =>
                {
                    return Err(StartError::Wiped { id: self.member.id, cluster_id });
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Remembers the group, before anything is promised to it.
    pub(crate) async fn adopt(&self, cluster_id: u64) -> Result<(), StartError> {
        self.log.save_cluster_id(cluster_id).await.map_err(failed)?;
        self.peers.set_cluster_id(cluster_id);
        Ok(())
    }

    /// Answers the founder of a group.
    pub(crate) async fn agree(&self, cluster_id: u64, members: &[NodeId]) -> Answer {
        let initialized = match self.raft.is_initialized().await {
            Ok(initialized) => initialized,
            Err(fatal) => return Answer::Refused(Refusal::Failed { reason: fatal.to_string() }),
        };
        if initialized {
            return Answer::Refused(Refusal::Wiped { cluster_id: self.peers.cluster_id() });
        }
        let own = match &self.start {
            Start::Together { members } => ids(members),
            Start::Alone => vec![self.member.id],
            Start::Join { .. } => Vec::new(),
        };
        if own != members {
            return Answer::Refused(Refusal::OtherMembers { members: own });
        }
        match self.adopt(cluster_id).await {
            Ok(()) => Answer::Agreed,
            Err(error) => Answer::Refused(Refusal::Failed { reason: error.to_string() }),
        }
    }

    /// Answers an empty replica that wants to join, or lets the leader answer.
    pub(crate) async fn admit(&self, id: NodeId, from: NodeId) -> Answer {
        match self.leaders.known() {
            Some(Leader::Here) => self.admit_here(id),
            Some(Leader::There { id: leader, peer }) if id == from => {
                match self.peers.call(leader, &peer, Call::Join { id }, CALL_TIMEOUT).await {
                    Ok(answer) => answer,
                    Err(CallError::Refused { refusal, .. }) => Answer::Refused(refusal),
                    Err(_) => Answer::Refused(Refusal::NotLeader),
                }
            }
            _ => Answer::Refused(Refusal::NotLeader),
        }
    }

    fn admit_here(&self, id: NodeId) -> Answer {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let Some(replication) = &metrics.replication else { return Answer::Refused(Refusal::NotLeader) };
        let cluster_id = self.peers.cluster_id();
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id).is_none() {
            return Answer::Refused(Refusal::NotMember);
        }
        let has_had_data = replication.get(&id).is_some_and(Option::is_some);
        if has_had_data || membership.voter_ids().any(|voter| voter == id) {
            return Answer::Refused(Refusal::Wiped { cluster_id });
        }
        Answer::Admitted { cluster_id }
    }
}

fn ids(members: &[Member]) -> Vec<NodeId> {
    let mut ids: Vec<_> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Failed { reason: error.to_string() }
}
