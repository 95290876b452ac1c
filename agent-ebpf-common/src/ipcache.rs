//! `IPCACHE` (single addresses) and `PREFIXES` (everything shorter): which cluster, node and identity an address belongs to.
//!
//! Two maps, because a hash look-up of a pod's address costs the same for 100 and for 250,000 pods, and a trie does not;
//! the trie then holds the few declared prefixes only. The single address wins, as in one longest-prefix match.

use crate::Addr;

/// What is known about an address or prefix.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpEntry {
    /// Security identity; 0 for a prefix.
    pub identity: u32,
    /// Cluster that owns it.
    pub cluster: u32,
    /// Underlay address of its node; unset for a prefix and for the own cluster.
    pub node: Addr,
    /// `FLAG_*`.
    pub flags: u32,
}

impl IpEntry {
    /// Drop what goes there: the path is not up, or there is no node to send to.
    pub const FLAG_DROP: u32 = 1;
    /// Belongs to another cluster: reached through the tunnel only.
    pub const FLAG_REMOTE: u32 = 2;
    /// Belongs to the own cluster: the CNI's business, and never a source in the tunnel.
    pub const FLAG_OWN: u32 = 4;

    #[inline(always)]
    pub const fn is_remote(&self) -> bool {
        self.flags & Self::FLAG_REMOTE != 0
    }

    #[inline(always)]
    pub const fn is_dropped(&self) -> bool {
        self.flags & Self::FLAG_DROP != 0
    }

    #[inline(always)]
    pub const fn is_own(&self) -> bool {
        self.flags & Self::FLAG_OWN != 0
    }
}

const _: () = assert!(size_of::<IpEntry>() == 28 && core::mem::offset_of!(IpEntry, flags) == 24);
