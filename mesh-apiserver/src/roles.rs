//! Who may read and write what over the etcd API. Pure: principal and key range in, verdict out.
//!
//! | role | reads | writes |
//! |---|---|---|
//! | admin | everything | everything |
//! | local (Cilium's agents) | heartbeat, `cilium/cache/`, `cilium/cluster-config/`, `cilium/synced/` | - |
//! | remote cluster | heartbeat, `cilium/state/`, own cluster-config, own canaries, `isthmus/v1/export/` | - |
//! | user of the store, of the own CA | what its roles grant | what its roles grant |
//! | agent, replica, anyone else | - | - |
//!
//! Whoever the own CA vouched for may also be a user of the store, and then has what that user was granted beside its line
//! here. A remote cluster never is: its line is all it has. What it reads of `cilium/state/` is everybody's and its own
//! audience's as one ([`Overlay`]); where an audience's keys are kept, nobody but the admin may read.

use certs::{Authority, Principal, Role};
use federation::contract::keys;
use mesh_store::etcd::{Access, Authorizer, Denied, Grants};
use mesh_store::mvcc::{KeyRange, Overlay};
use mesh_types::ClusterName;

use crate::export::keys::shown_to;

/// The table of one cluster.
#[derive(Debug, Clone)]
pub struct Roles {
    admin: Grants,
    local: Grants,
    remote: Grants,
    nothing: Grants,
}

impl Roles {
    pub fn new(own: &ClusterName) -> Self {
        let reads = |read: Vec<KeyRange>| Grants { read, write: Vec::new() };
        // Cilium watches the heartbeat as a prefix without a slash.
        let heartbeat = KeyRange::prefix(keys::HEARTBEAT);
        Self {
            admin: Grants::all(),
            local: reads(vec![
                heartbeat.clone(),
                KeyRange::prefix(keys::CACHE),
                KeyRange::prefix(keys::CLUSTER_CONFIGS),
                KeyRange::prefix(keys::SYNCED),
            ]),
            remote: reads(vec![
                heartbeat,
                KeyRange::prefix(keys::STATE),
                KeyRange::single(keys::cluster_config(own)),
                KeyRange::prefix(keys::canaries(own)),
                KeyRange::prefix(keys::EXPORT),
            ]),
            nothing: Grants::default(),
        }
    }

    pub fn grants(&self, role: Role<'_>) -> &Grants {
        match role {
            Role::Admin => &self.admin,
            Role::Local => &self.local,
            Role::Remote(_) | Role::SharedRemote(_) => &self.remote,
            Role::Agent(_) | Role::Replica | Role::User(_) => &self.nothing,
        }
    }
}

/// Whose audience a caller is, beside everybody. Of Cilium clusters that share a CA, one that calls itself `remote` could be
/// any of them ([`Role::SharedRemote`]): it is shown what everyone may see.
fn audience(principal: &Principal) -> Option<&ClusterName> {
    match principal.role() {
        Role::Remote(cluster) => Some(cluster),
        _ => None,
    }
}

/// A range that reaches beyond what is granted is refused as a whole, as in etcd.
impl Authorizer<Principal> for Roles {
    fn check(&self, principal: &Principal, access: Access<'_>) -> Result<(), Denied> {
        self.grants(principal.role()).check(access)
    }

    fn overlay(&self, principal: &Principal) -> Option<Overlay> {
        audience(principal).map(shown_to)
    }

    fn user<'a>(&self, principal: &'a Principal) -> Option<&'a str> {
        match principal.authority {
            Authority::Own => Some(&principal.name),
            Authority::Peer(_) | Authority::Peers(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_store::etcd::Mode;

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
            (KeyRange::prefix("isthmus/v1/export/trusts/"), false, true),
            (KeyRange::prefix("isthmus/v1/rotation/"), false, false),
            (KeyRange::prefix("isthmus/v1/"), false, false),
            (KeyRange::prefix(keys::AUDIENCE), false, false),
            (KeyRange::prefix("isthmus/v1/audience/west/"), false, false),
            (KeyRange::single("isthmus/v1/audience/west/cilium/state/nodes/v1/east/n"), false, false),
            (KeyRange::new("cilium/state/", "isthmus/v1/audience/west0"), false, false),
            (KeyRange::single(keys::EXCHANGE), false, false),
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
                let may = |mode| roles.check(who, Access { mode, range }).is_ok();
                assert_eq!(may(Mode::Read), want, "{who} reads {range:?}");
                assert_eq!(may(Mode::Write), who.is_admin(), "{who} writes {range:?}");
            }
        }
        for (who, user) in [(&local, Some("local-east")), (&agent, Some("agent-n1")), (&remote, None), (&legacy, None)]
        {
            assert_eq!(roles.user(who), user, "the store's user that {who} is");
        }
        let wests = Overlay::new("cilium/state/", "isthmus/v1/audience/west/");
        let either = [ClusterName::new("west").unwrap(), ClusterName::new("north").unwrap()].into();
        let either = principal(&Authority::Peers(either), "remote");
        for (who, overlay) in [
            (&remote, Some(wests.clone())),
            (&legacy, Some(wests)),
            (&either, None),
            (&admin, None),
            (&local, None),
            (&agent, None),
            (&replica, None),
        ] {
            assert_eq!(roles.overlay(who), overlay, "what {who} sees beside what everybody sees");
        }
    }
}
