//! Addresses as map keys.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of either family in 16 bytes, network byte order; IPv4 as v4-mapped (`::ffff:a.b.c.d`).
///
/// Mapped, so that no key needs a family field and one trie holds both families. Words, not bytes, so that the programs
/// build a key with four stores. A mapped address never appears on the wire: programs must not make one from an IPv6 header
/// (`is_v4` on a wire address means a forged packet).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Addr(pub [u32; 4]);

/// An address in one cluster's address space: key of `IPCACHE` and `ENDPOINTS`, and data of the `PREFIXES` trie.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct AddrKey {
    /// [`crate::SPACE_SHARED`] until prefixes of clusters may overlap.
    pub space: u32,
    pub addr: Addr,
}

/// The third word of a v4-mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Addr {
    /// From the four bytes of an IPv4 header, read as they lie in memory.
    #[inline(always)]
    pub const fn from_wire_v4(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// The four bytes of an IPv4 address as they lie on the wire.
    #[inline(always)]
    pub const fn wire_v4(&self) -> u32 {
        self.0[3]
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    pub const fn is_unset(&self) -> bool {
        matches!(self.0, [0, 0, 0, 0])
    }

    pub fn octets(&self) -> [u8; 16] {
        let mut out = [0; 16];
        for (bytes, word) in out.chunks_exact_mut(4).zip(self.0) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }
}

impl AddrKey {
    /// Length in bits of a full key: a prefix of n bits of an IPv4 address has `SPACE_BITS + V4_BITS + n`, of IPv6 `SPACE_BITS + n`.
    pub const SPACE_BITS: u32 = 32;
    pub const V4_BITS: u32 = 96;

    #[inline(always)]
    pub const fn shared(addr: Addr) -> Self {
        Self { space: crate::SPACE_SHARED, addr }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_wire_v4(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(ip.octets().chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self(words)
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        Ipv6Addr::from(addr.octets()).to_canonical()
    }
}

const _: () = assert!(size_of::<Addr>() == 16 && align_of::<Addr>() == 4);
const _: () = assert!(size_of::<AddrKey>() == 20 && core::mem::offset_of!(AddrKey, addr) == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_lies_in_memory_as_on_the_wire_and_reads_back() {
        let ip = Ipv4Addr::new(10, 1, 2, 3);
        let addr = Addr::from(ip);
        assert_eq!(addr.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
        assert!(addr.is_v4());
        assert_eq!(IpAddr::from(addr), IpAddr::V4(ip));
        assert_eq!(addr.wire_v4().to_ne_bytes(), [10, 1, 2, 3]);
    }

    #[test]
    fn an_ipv6_address_reads_back_and_is_not_v4() {
        let ip: Ipv6Addr = "fd00::1:2".parse().unwrap();
        let addr = Addr::from(ip);
        assert!(!addr.is_v4());
        assert_eq!(IpAddr::from(addr), IpAddr::V6(ip));
    }
}
