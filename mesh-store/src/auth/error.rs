//! Why a change of users or roles is refused, in etcd's own words where it has them: clients compare the text.

use tonic::Code;

/// The book is unchanged whenever one is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name already exists")]
    UserExists,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: role name already exists")]
    RoleExists,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: root user does not exist")]
    NoRootUser,
    #[error("etcdserver: root user does not have root role")]
    NoRootRole,
    /// What would leave nobody in charge, or permit a range without keys.
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthenticationFailed,
    /// etcd has no gRPC words for this one and passes on its own.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error(
        "isthmus: user {user:?}: passwords are not kept here: add it with --no-password, it proves who it is by a client \
         certificate of this name from the cluster's own CA"
    )]
    Password { user: String },
    #[error("isthmus: {range} lies in {reserved:?}, which the mesh keeps for itself: the role {ROOT:?} alone reaches it", reserved = super::RESERVED, ROOT = super::ROOT)]
    Reserved { range: String },
    #[error("isthmus: permission type {kind} is not known: it is 0 (read), 1 (write) or 2 (both)")]
    UnknownKind { kind: i32 },
    #[error("isthmus: users and roles would take {bytes} bytes, and {limit} is the limit: delete some")]
    TooLarge { bytes: usize, limit: usize },
}

impl AuthError {
    /// The status code that etcd answers with.
    pub fn code(&self) -> Code {
        match self {
            Self::UserEmpty
            | Self::RoleEmpty
            | Self::PermissionNotGiven
            | Self::InvalidManagement
            | Self::AuthenticationFailed
            | Self::Password { .. }
            | Self::Reserved { .. }
            | Self::UnknownKind { .. } => Code::InvalidArgument,
            Self::UserExists
            | Self::UserNotFound
            | Self::RoleExists
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted
            | Self::NoRootUser
            | Self::NoRootRole
            | Self::NotEnabled => Code::FailedPrecondition,
            Self::NoPasswordUser => Code::Unknown,
            Self::TooLarge { .. } => Code::ResourceExhausted,
        }
    }
}
