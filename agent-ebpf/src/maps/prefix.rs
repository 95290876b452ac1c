//! Prefixes as keys of a longest-prefix-match trie.

use std::net::IpAddr;

use agent_ebpf_common::{Addr, AddrKey};
use ipnet::IpNet;

/// `struct bpf_lpm_trie_key` with an address of one cluster's space behind it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrieKey {
    bits: u32,
    key: AddrKey,
}

#[expect(unsafe_code, reason = "aya::Pod is an unsafe marker")]
// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for TrieKey {}

impl TrieKey {
    pub(super) fn of(prefix: &IpNet) -> Self {
        let family = if prefix.addr().is_ipv4() { AddrKey::V4_BITS } else { 0 };
        let bits = AddrKey::SPACE_BITS + family + u32::from(prefix.prefix_len());
        Self { bits, key: AddrKey::shared(Addr::from(prefix.network())) }
    }

    /// All bits of one address, for a look-up.
    pub(super) fn full(addr: IpAddr) -> Self {
        Self::of(&IpNet::from(addr))
    }

    /// `None` for a key that no [`Self::of`] makes.
    pub(super) fn prefix(&self) -> Option<IpNet> {
        let addr = IpAddr::from(self.key.addr);
        let family = if addr.is_ipv4() { AddrKey::V4_BITS } else { 0 };
        let len = self.bits.checked_sub(AddrKey::SPACE_BITS + family)?;
        IpNet::new(addr, u8::try_from(len).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families_read_back() {
        for text in ["10.1.0.0/16", "0.0.0.0/0", "10.1.2.3/32", "fd00:1::/48", "::/0"] {
            let prefix: IpNet = text.parse().unwrap();
            assert_eq!(TrieKey::of(&prefix).prefix(), Some(prefix), "{text}");
        }
    }

    #[test]
    fn host_bits_do_not_make_another_key() {
        let key = |text: &str| TrieKey::of(&text.parse().unwrap());
        assert_eq!(key("10.1.2.3/16"), key("10.1.0.0/16"));
    }
}
