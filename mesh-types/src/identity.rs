//! Security identity numbers and their ranges (Cilium `pkg/identity/numericidentity.go`).

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::ClusterId;

/// The number of a label set, scoped to its cluster: `cluster_id << shift | local`. 24 bits, since it rides in the VNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecurityIdentity(pub u32);

impl SecurityIdentity {
    pub const UNKNOWN: Self = Self(0);
    pub const HOST: Self = Self(1);
    pub const WORLD: Self = Self(2);
    pub const UNMANAGED: Self = Self(3);
    pub const HEALTH: Self = Self(4);
    pub const INIT: Self = Self(5);
    pub const REMOTE_NODE: Self = Self(6);
    pub const KUBE_APISERVER: Self = Self(7);
    pub const INGRESS: Self = Self(8);

    /// Numbers below this are reserved and mean the same in every cluster.
    pub const MIN_ALLOCATABLE: u32 = 256;

    pub const fn is_reserved(self) -> bool {
        self.0 < Self::MIN_ALLOCATABLE
    }
}

impl fmt::Display for SecurityIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the 24 bits are split between cluster number and local number. Equal in all clusters of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IdentityLayout {
    /// 255 clusters, 65,536 numbers each.
    #[default]
    Clusters255,
    /// 511 clusters, 32,768 numbers each.
    Clusters511,
}

impl IdentityLayout {
    /// Bits of the local part.
    pub const fn shift(self) -> u32 {
        match self {
            Self::Clusters255 => 16,
            Self::Clusters511 => 15,
        }
    }

    /// The largest cluster number in this layout; also Cilium's `maxConnectedClusters`.
    pub const fn max_clusters(self) -> u32 {
        match self {
            Self::Clusters255 => 255,
            Self::Clusters511 => 511,
        }
    }

    /// All numbers that belong to `cluster`, including those that it may never allocate.
    pub const fn range(self, cluster: ClusterId) -> RangeInclusive<u32> {
        let first = cluster.get() << self.shift();
        first..=first + ((1 << self.shift()) - 1)
    }

    /// Numbers that `cluster`'s allocator may hand out: the local part is at least 256, as in Cilium.
    pub const fn allocatable(self, cluster: ClusterId) -> RangeInclusive<u32> {
        let first = cluster.get() << self.shift();
        first + SecurityIdentity::MIN_ALLOCATABLE..=first + ((1 << self.shift()) - 1)
    }

    /// The cluster that a number belongs to, or `None` for reserved and impossible numbers.
    pub fn cluster_of(self, id: SecurityIdentity) -> Option<ClusterId> {
        if id.0 >> 24 != 0 {
            return None;
        }
        ClusterId::new(id.0 >> self.shift()).ok()
    }

    /// Whether `cluster` may say this number about one of its addresses: its own range or a reserved number.
    pub fn may_say(self, cluster: ClusterId, id: SecurityIdentity) -> bool {
        id.is_reserved() || self.range(cluster).contains(&id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_number_belongs_to_cluster_7() {
        let id = SecurityIdentity(459_953);
        let seven = ClusterId::new(7).unwrap();
        assert_eq!(IdentityLayout::Clusters255.cluster_of(id), Some(seven));
        assert!(IdentityLayout::Clusters255.may_say(seven, id));
        assert!(!IdentityLayout::Clusters255.may_say(ClusterId::new(6).unwrap(), id));
    }

    #[test]
    fn ranges_of_neighbouring_clusters_do_not_touch() {
        for layout in [IdentityLayout::Clusters255, IdentityLayout::Clusters511] {
            let a = layout.range(ClusterId::new(1).unwrap());
            let b = layout.range(ClusterId::new(2).unwrap());
            assert_eq!(a.end() + 1, *b.start());
        }
    }
}
