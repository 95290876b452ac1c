//! To whom an address belongs.

use agent_ebpf_common::{Addr, AddrKey, IpEntry};
use aya_ebpf::maps::lpm_trie::Key;

use crate::maps::{IPCACHE, PREFIXES};

const FULL_LENGTH: u32 = AddrKey::SPACE_BITS + 128;

/// The entry of a single address.
#[inline(always)]
pub fn exact(addr: Addr) -> Option<&'static IpEntry> {
    // SAFETY: entries are freed after a grace period (BPF_F_NO_PREALLOC), so the reference outlives this run.
    unsafe { IPCACHE.get(&AddrKey::shared(addr)) }
}

/// The longest declared prefix.
#[inline(always)]
pub fn prefix(addr: Addr) -> Option<&'static IpEntry> {
    PREFIXES.get(&Key::new(FULL_LENGTH, AddrKey::shared(addr)))
}

#[inline(always)]
pub fn lookup(addr: Addr) -> Option<&'static IpEntry> {
    match exact(addr) {
        Some(entry) => Some(entry),
        None => prefix(addr),
    }
}
