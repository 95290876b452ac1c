//! What replicas say to each other.
//!
//! The encoding is postcard behind a format number; both sides of a group speak the same format. Every message names the
//! group and both replicas, so one that went astray is refused, never obeyed.

use bytes::Bytes;
use mesh_store_mvcc::LeaseId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};

use super::types::{LogId, NodeId, Part, SnapshotMeta, StoreTypes, Vote};
use crate::backend::{Member, MemberError};

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// 0 in calls of a replica that does not belong to a group yet.
    pub(crate) cluster_id: u64,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) call: Call,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Call {
    Append(AppendEntriesRequest<StoreTypes>),
    Vote(VoteRequest<NodeId>),
    /// Would the other vote for the caller? Asked before terms are counted up, so that a replica that was cut off does not
    /// depose a leader that others hear.
    PreVote {
        last_log_id: Option<LogId>,
    },
    Snapshot(SnapshotChunk),
    /// The leader is asked which entry a linearizable read has to have seen.
    ReadIndex,
    /// Clients' commands on their way to the leader. Answered when the entry is applied there.
    Propose(Part),
    RenewLease(LeaseId),
    LeaseTimeLeft(LeaseId),
    Change(MemberChange),
    MoveLeader {
        to: NodeId,
    },
    /// The leader steps back in favour of the one it calls.
    StandForElection,
    /// The founder of a group asks the others whether they are as empty as it is.
    Found {
        cluster_id: u64,
        members: Vec<NodeId>,
    },
    /// An empty replica asks whether the group expects it; passed on to the leader once.
    Join {
        id: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotChunk {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) offset: u64,
    pub(crate) total: u64,
    pub(crate) bytes: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberChange {
    Add(Member),
    Remove(NodeId),
    Promote(NodeId),
    Update {
        id: NodeId,
        peer_urls: Vec<String>,
    },
    /// A replica says what it is called and where its clients find it.
    Publish {
        id: NodeId,
        name: String,
        client_urls: Vec<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(AppendEntriesResponse<NodeId>),
    Vote(VoteResponse<NodeId>),
    PreVote {
        granted: bool,
    },
    Snapshot(SnapshotProgress),
    ReadIndex {
        index: u64,
    },
    Applied,
    /// Seconds; `None` if there is no such lease.
    Renewed(Option<i64>),
    LeaseTimeLeft {
        milliseconds: u64,
    },
    Members(Result<Vec<Member>, MemberError>),
    Moved(Result<(), MemberError>),
    Standing,
    Agreed,
    Admitted {
        cluster_id: u64,
    },
    Refused(Refusal),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotProgress {
    /// A higher one than the sender's ends the transfer.
    pub(crate) vote: Vote,
    /// The next byte that is wanted.
    pub(crate) received: u64,
    pub(crate) installed: bool,
}

/// Why a call was not obeyed. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("replica {id} belongs to cluster {own:016x}, not to {asked:016x}")]
    OtherCluster { id: NodeId, own: u64, asked: u64 },
    #[error("this is replica {id}")]
    OtherReplica { id: NodeId },
    #[error("the caller is not replica {claimed}")]
    Impostor { claimed: NodeId },
    #[error("the replica does not belong to a group yet")]
    NotAdmitted,
    #[error("the replica does not lead")]
    NotLeader,
    /// As [`Refusal::NotLeader`], but found out too late: the entry may be committed all the same.
    #[error("the replica lost its leadership")]
    LostLeadership,
    #[error("the group of cluster {cluster_id:016x} knows the replica, which has lost its data")]
    Wiped { cluster_id: u64 },
    #[error("the group does not expect the replica")]
    NotMember,
    #[error("the replica was told to found a group of {members:?}")]
    OtherMembers { members: Vec<NodeId> },
    #[error("the message cannot be read")]
    Unreadable,
    #[error("the replica failed: {reason}")]
    Failed { reason: String },
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Bytes, postcard::Error> {
    postcard::to_extend(message, FORMAT.to_le_bytes().to_vec()).map(Bytes::from)
}

pub(crate) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    let (format, body) = bytes.split_at_checked(4)?;
    if format != FORMAT.to_le_bytes() {
        return None;
    }
    postcard::from_bytes(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_garbage_is_refused() {
        let envelope = Envelope { cluster_id: 7, from: 1, to: 2, call: Call::MoveLeader { to: 3 } };
        let bytes = encode(&envelope).unwrap();
        let read: Envelope = decode(&bytes).unwrap();
        assert!(matches!((read.cluster_id, read.from, read.to, read.call), (7, 1, 2, Call::MoveLeader { to: 3 })));
        for cut in 0..bytes.len() {
            assert!(decode::<Envelope>(&bytes[..cut]).is_none(), "cut at {cut}");
        }
        let mut other = bytes.to_vec();
        other[0] = 9;
        assert!(decode::<Envelope>(&other).is_none(), "another format");
    }
}
