//! Who may read and write what over the etcd API. Pure: principal and key range in, verdict out.
//!
//! | role | reads | writes |
//! |---|---|---|
//! | admin | everything | everything |
//! | local (Cilium's agents) | heartbeat, `cilium/cache/`, `cilium/cluster-config/`, `cilium/synced/` | - |
//! | remote cluster | heartbeat, `cilium/state/`, own cluster-config, own canaries, `isthmus/v1/export/` | - |
//! | agent, replica, anyone else | - | - |

use certs::{Principal, Role};
use federation::contract::keys;
use mesh_store::mvcc::KeyRange;
use mesh_types::ClusterName;

/// What a caller wants to do with a range of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// The table of one cluster.
#[derive(Debug, Clone)]
pub struct Roles {
    local: Vec<KeyRange>,
    remote: Vec<KeyRange>,
}

impl Roles {
    pub fn new(own: &ClusterName) -> Self {
        // Cilium watches the heartbeat as a prefix without a slash.
        let heartbeat = KeyRange::prefix(keys::HEARTBEAT);
        Self {
            local: vec![
                heartbeat.clone(),
                KeyRange::prefix(keys::CACHE),
                KeyRange::prefix(keys::CLUSTER_CONFIGS),
                KeyRange::prefix(keys::SYNCED),
            ],
            remote: vec![
                heartbeat,
                KeyRange::prefix(keys::STATE),
                KeyRange::single(keys::cluster_config(own)),
                KeyRange::prefix(keys::canaries(own)),
                KeyRange::prefix(keys::EXPORT),
            ],
        }
    }

    /// Whether all of `range` is open to the caller: a range that reaches beyond is refused as a whole, as in etcd.
    pub fn allow(&self, caller: &Principal, access: Access, range: &KeyRange) -> bool {
        let granted = match (caller.role(), access) {
            (Role::Admin, _) => return true,
            (Role::Local, Access::Read) => &self.local,
            (Role::Remote(_), Access::Read) => &self.remote,
            _ => return false,
        };
        granted.iter().any(|g| g.encloses(range))
    }

    /// Leases, compaction and the like touch keys of everybody.
    pub fn allow_administration(caller: &Principal) -> bool {
        caller.role() == Role::Admin
    }
}

#[cfg(test)]
mod tests {
    use certs::Authority;

    use super::*;

    #[test]
    fn every_principal_on_every_kind_of_range() {
        let own = ClusterName::new("east").unwrap();
        let west = Authority::Peer(ClusterName::new("west").unwrap());
        let principal = |authority: &Authority, name: &str| Principal::admit(authority.clone(), name, &own).unwrap();
        let roles = Roles::new(&own);
        let admin = principal(&Authority::Own, "admin-east");
        let local = principal(&Authority::Own, "local-east");
        let agent = principal(&Authority::Own, "agent-n1");
        let replica = principal(&Authority::Own, "mesh-apiserver");
        let remote = principal(&west, "remote-west");
        let legacy = principal(&west, "remote");
        // (range, may local read it, may a remote cluster read it)
        let table = [
            (KeyRange::prefix("cilium/.heartbeat"), true, true),
            (KeyRange::single("cilium/.heartbeat"), true, true),
            (KeyRange::prefix("cilium/state/"), false, true),
            (KeyRange::prefix("cilium/state/nodes/v1/east/"), false, true),
            (KeyRange::prefix("cilium/cache/"), true, false),
            (KeyRange::prefix("cilium/cache/nodes/v1/west/"), true, false),
            (KeyRange::single("cilium/cluster-config/east"), true, true),
            (KeyRange::single("cilium/cluster-config/west"), true, false),
            (KeyRange::prefix("cilium/cluster-config/"), true, false),
            (KeyRange::prefix("cilium/synced/east/"), true, true),
            (KeyRange::prefix("cilium/synced/west/"), true, false),
            (KeyRange::prefix("isthmus/v1/export/"), false, true),
            (KeyRange::single("isthmus/v1/export/clock"), false, true),
            (KeyRange::prefix("isthmus/v1/"), false, false),
            (KeyRange::single("isthmus/v1/cluster"), false, false),
            (KeyRange::prefix("isthmus/v1/tokens/"), false, false),
            (KeyRange::prefix("isthmus/v1/peers/"), false, false),
            (KeyRange::prefix("isthmus/v1/local/"), false, false),
            (KeyRange::prefix("cilium/"), false, false),
            (KeyRange::from_key("cilium/state/"), false, false),
            (KeyRange::all(), false, false),
        ];
        for (range, by_local, by_remote) in &table {
            for (who, want) in [
                (&admin, true),
                (&local, *by_local),
                (&remote, *by_remote),
                (&legacy, *by_remote),
                (&agent, false),
                (&replica, false),
            ] {
                assert_eq!(roles.allow(who, Access::Read, range), want, "{who} reads {range:?}");
                let writes = who.is_admin();
                assert_eq!(roles.allow(who, Access::Write, range), writes, "{who} writes {range:?}");
                assert_eq!(Roles::allow_administration(who), writes);
            }
        }
    }
}
