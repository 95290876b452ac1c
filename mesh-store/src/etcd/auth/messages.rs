//! The messages of `etcdserverpb.Auth` whose types the etcd-client crate does not export, and the way between them and
//! the words of [`crate::auth`].

use etcd_client::proto::PbResponseHeader;
use mesh_store_mvcc::KeyRange;

use crate::auth::{AuthError, Permission, PermissionKind};

/// Of a request that says nothing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Nothing {}

/// Of an answer that says no more than its header: to every change.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Done {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<PbResponseHeader>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<PbResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) enabled: bool,
    #[prost(uint64, tag = "3")]
    pub(super) auth_revision: u64,
}

/// `authpb.Permission`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PermissionMessage {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct GrantPermissionRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) perm: Option<PermissionMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RoleGetResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<PbResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(super) perm: Vec<PermissionMessage>,
}

impl TryFrom<PermissionMessage> for Permission {
    type Error = AuthError;

    fn try_from(message: PermissionMessage) -> Result<Self, AuthError> {
        let kind = match message.kind {
            0 => PermissionKind::Read,
            1 => PermissionKind::Write,
            2 => PermissionKind::ReadWrite,
            kind => return Err(AuthError::UnknownKind { kind }),
        };
        Ok(Self { kind, range: KeyRange::new(message.key, message.range_end) })
    }
}

impl From<Permission> for PermissionMessage {
    fn from(permission: Permission) -> Self {
        let kind = match permission.kind {
            PermissionKind::Read => 0,
            PermissionKind::Write => 1,
            PermissionKind::ReadWrite => 2,
        };
        Self { kind, key: permission.range.key.into(), range_end: permission.range.range_end.into() }
    }
}
