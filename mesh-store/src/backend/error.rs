//! Why the store did not do what was asked.

/// How a caller should react, decided once here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same request may succeed later.
    Retryable,
    /// The same request will fail again.
    Invalid,
    /// This replica will not serve again until it is restarted.
    Fatal,
}

/// The texts of what an etcd client can receive are etcd's own.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] mesh_store_mvcc::Error),
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: request timed out")]
    TimedOut,
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The replica's storage or consensus ended for good; `reason` is the first cause.
    #[error("etcdserver: server stopped after a failure: {reason}")]
    Failed { reason: String },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(_) => Class::Invalid,
            Self::NoLeader | Self::TooManyRequests | Self::TimedOut => Class::Retryable,
            Self::Stopped | Self::Failed { .. } => Class::Fatal,
        }
    }

    /// True when a write that failed so may have happened all the same.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Stopped | Self::Failed { .. })
    }

    /// The oldest revision that can be read, when the refusal was that an older one was asked for.
    pub fn compact_revision(&self) -> Option<i64> {
        match self {
            Self::Refused(mesh_store_mvcc::Error::Compacted { compact_revision }) => Some(*compact_revision),
            _ => None,
        }
    }
}
