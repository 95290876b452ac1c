//! Why the store did not do what was asked.

use std::sync::Arc;

use super::MemberError;

/// How a caller should react, decided once here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same request may succeed later.
    Retryable,
    /// The same request will fail again.
    Invalid,
    /// An alarm is raised: the same request may succeed once a person has disarmed it.
    Alarm,
    /// The store will not serve this caller again: the replica has to be restarted, or the caller lost its role.
    Fatal,
}

/// The texts of what an etcd client can receive are etcd's own.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] mesh_store_mvcc::Error),
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Nobody leads, or nobody could be asked: nothing was done.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The leader changed while a read was on its way to it.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The leader was lost after the write had reached it: it may or may not have happened.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderLost,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// Another one holds the role now that the writer acts in; nothing was written. See [`crate::Fenced`].
    #[error("{role} has another holder now: nothing was written")]
    Fenced { role: String },
    #[error("isthmus: {what} is not served by this store")]
    NotServed { what: &'static str },
    #[error("etcdserver: server stopped")]
    Stopped,
    /// An etcd that somebody else runs, in the place of the embedded store, did not do it.
    #[error("the external etcd at {endpoints} did not answer: {reason}")]
    External { endpoints: Arc<str>, reason: String },
    /// The replica's storage or consensus ended for good; `reason` is the first cause.
    #[error("etcdserver: server stopped after a failure: {reason}")]
    Failed { reason: String },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Member(MemberError::LearnerNotReady | MemberError::Unhealthy | MemberError::TransferTimedOut)
            | Self::NoLeader
            | Self::LeaderChanged
            | Self::LeaderLost
            | Self::TooManyRequests
            | Self::TimedOut
            | Self::External { .. } => Class::Retryable,
            Self::Refused(mesh_store_mvcc::Error::NoSpace | mesh_store_mvcc::Error::Corrupt) => Class::Alarm,
            Self::Refused(_) | Self::Member(_) | Self::NotServed { .. } => Class::Invalid,
            Self::Fenced { .. } | Self::Stopped | Self::Failed { .. } => Class::Fatal,
        }
    }

    /// True when a write that failed so may have happened all the same.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self, Self::LeaderLost | Self::TimedOut | Self::Stopped | Self::Failed { .. } | Self::External { .. })
    }

    /// The oldest revision that can be read, when the refusal was that an older one was asked for.
    pub fn compact_revision(&self) -> Option<i64> {
        match self {
            Self::Refused(mesh_store_mvcc::Error::Compacted { compact_revision }) => Some(*compact_revision),
            _ => None,
        }
    }
}
