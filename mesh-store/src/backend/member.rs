//! Who keeps the store, and why a change of that is refused.
//!
//! It owns the words of membership that callers and the etcd services share. It must never name Raft.

use serde::{Deserialize, Serialize};

/// One replica of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Never 0 in an answer; 0 in a request to add a member lets the store choose.
    pub id: u64,
    /// Empty until the member has started for the first time and said its name.
    pub name: String,
    /// Where the other replicas reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; said by the member itself.
    pub client_urls: Vec<String>,
    /// It follows, but has no vote. In a request to add a member, false means: promote it as soon as it has caught up.
    pub is_learner: bool,
}

/// Why a change of the members was refused; nothing has changed then. The texts are etcd's where etcd has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MemberError {
    #[error("etcdserver: member not found")]
    NotFound,
    #[error("etcdserver: member ID already exist")]
    Exists,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimedOut,
    #[error(
        "isthmus: this replica was started alone and has no way to others: start it with a Raft address before members \
         are added"
    )]
    Alone,
}
