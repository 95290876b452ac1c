//! What a mock cluster lets others read: what a real one lets a remote cluster read, and the cached layout, which a mirror
//! serves in its place. Nobody may write.

use certs::Principal;
use federation::contract::keys;
use mesh_store::etcd::{Access, Authorizer, Denied, Grants};
use mesh_store::mvcc::KeyRange;
use mesh_types::ClusterName;

pub(super) struct Remote(Grants);

impl Remote {
    pub(super) fn of(own: &ClusterName) -> Self {
        let read = vec![
            KeyRange::prefix(keys::HEARTBEAT),
            KeyRange::prefix(keys::STATE),
            KeyRange::prefix(keys::CACHE),
            KeyRange::prefix(keys::EXPORT),
            KeyRange::prefix(keys::canaries(own)),
            KeyRange::single(keys::cluster_config(own)),
        ];
        Self(Grants { read, write: Vec::new() })
    }
}

impl Authorizer<Principal> for Remote {
    fn check(&self, principal: &Principal, access: Access<'_>) -> Result<(), Denied> {
        principal.peer().ok_or(Denied)?;
        self.0.check(access)
    }
}
