//! `VIPS`, `SERVICES`, `BACKENDS` and `MAGLEV`: from a service address to a backend.
//!
//! ```text
//!   SERVICES {addr, port, proto} -> {one backend} or {offset, length of its table}
//!   MAGLEV   offset + (flow hash * length >> 32) -> backend number      (one flat slab for all services)
//!   BACKENDS backend number -> address, port
//! ```
//! One slab rather than a map of maps: two array look-ups that the verifier inlines, and the agent writes tables through
//! shared memory. A table is replaced by writing a new one elsewhere in the slab and then the service's entry; the old
//! range may be used again one RCU grace period later (any program run is over after a millisecond).

use crate::Addr;

/// `VIPS`: a bit for each value of an address's hash; 0 means that no service has such an address, so that other packets
/// spare themselves two look-ups. 128 KiB: one address in eleven is taken for a service's at 100,000 services.
pub mod vips {
    use crate::Addr;

    /// Bits in one element of the array: a cache line.
    pub const LINE_BITS: u32 = 512;
    /// Words of one element.
    pub const LINE_WORDS: usize = 16;
    /// Elements.
    pub const LINES: u32 = 2_048;

    /// Number of an address's bit.
    #[inline(always)]
    pub const fn bit(addr: &Addr) -> u32 {
        let [a, b, c, d] = addr.0;
        // In host order neighbours differ in the low bits, which is what multiplying by the golden ratio spreads best.
        let mixed = (((a ^ c) as u64) << 32 | u32::from_be(b ^ d) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 44) as u32
    }

    /// Element, word in it, and mask of a bit.
    #[inline(always)]
    pub const fn place(bit: u32) -> (u32, usize, u32) {
        (bit / LINE_BITS, (bit % LINE_BITS / 32) as usize, 1 << (bit % 32))
    }
}

/// A service's address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ServiceKey {
    pub addr: Addr,
    /// Network byte order, as all ports in map keys and values: the value of `u16::to_be`.
    pub port_be: u16,
    /// [`crate::PROTO_TCP`] or [`crate::PROTO_UDP`].
    pub proto: u8,
    pub pad: u8,
}

/// Where a service's backends are found.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// The agent's number for the service, for people and flows.
    pub id: u32,
    /// Number of backends; 0 refuses connections.
    pub backends: u32,
    /// The only backend when `backends` is 1: no table.
    pub backend: u32,
    /// First entry of the table in the slab.
    pub table_offset: u32,
    /// Entries of the table; one of [`TABLE_SIZES`].
    pub table_len: u32,
    pub flags: u32,
}

/// One backend. Numbers are slots of an array, from 1; a slot whose content changes must get a new number, since an update
/// is not atomic and flows remember numbers.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backend {
    pub addr: Addr,
    pub port_be: u16,
    pub proto: u8,
    /// `FLAG_*`.
    pub flags: u8,
    pub cluster: u32,
}

impl Backend {
    /// The slot is in use.
    pub const FLAG_LIVE: u8 = 1;
    /// In another cluster.
    pub const FLAG_REMOTE: u8 = 2;
    /// The number that means "none".
    pub const NONE: u32 = 0;

    #[inline(always)]
    pub const fn is_live(&self) -> bool {
        self.flags & Self::FLAG_LIVE != 0
    }
}

/// Table lengths by class: primes, as the Maglev permutation wants. `(most backends, length)`.
///
/// At least 31 entries a backend keeps the largest share within a few per cent of the smallest; 100,000 services of the
/// first class take 51 MB.
pub const TABLE_SIZES: [(u32, u32); 4] = [(4, 127), (32, 1_021), (512, 16_381), (u32::MAX, 65_521)];

/// The table length for a number of backends; 0 where no table is needed.
pub const fn table_len(backends: u32) -> u32 {
    if backends < 2 {
        return 0;
    }
    let mut class = 0;
    while backends > TABLE_SIZES[class].0 {
        class += 1;
    }
    TABLE_SIZES[class].1
}

/// Table entries a backend where weights differ: each then has its share to half a per cent of an entry's worth, and
/// those of a cluster add up.
const ENTRIES_PER_WEIGHTED_BACKEND: u32 = 200;

/// The table length for backends with different weights: a short table cannot hold fine shares.
pub const fn weighted_table_len(backends: u32) -> u32 {
    let wanted = backends.saturating_mul(ENTRIES_PER_WEIGHTED_BACKEND);
    let mut class = 0;
    while class + 1 < TABLE_SIZES.len() && TABLE_SIZES[class].1 < wanted {
        class += 1;
    }
    if backends < 2 { 0 } else { TABLE_SIZES[class].1 }
}

/// Seed of the table builder's permutations: equal in all clusters, so that all nodes choose alike.
pub const TABLE_SEED: u64 = 0x6973_7468_6d75_7331;

/// `MAGLEV` is an array of cache lines of this many entries: an array element is rounded up to 8 bytes, and single `u32`s
/// would waste half of it.
pub const SLAB_LINE: u32 = 16;

const _: () = assert!(vips::LINES * vips::LINE_BITS == 1 << 20);
const _: () = assert!(size_of::<ServiceKey>() == 20);
const _: () = assert!(size_of::<Service>() == 24);
const _: () = assert!(size_of::<Backend>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_service_addresses_rarely_share_a_bit() {
        let addresses = (0..100_000_u32).map(|n| Addr::from(core::net::Ipv4Addr::from(0x0a60_0001 + n)));
        let bits: std::collections::BTreeSet<_> = addresses.map(|addr| vips::bit(&addr)).collect();
        assert!(bits.len() > 90_000, "{}", bits.len());
        let last = vips::LINES * vips::LINE_BITS - 1;
        assert!(bits.last().is_some_and(|bit| *bit <= last));
        assert_eq!(vips::place(last), (vips::LINES - 1, vips::LINE_WORDS - 1, 1 << 31));
    }

    #[test]
    fn the_table_class_follows_the_number_of_backends() {
        let expected = [(0, 0), (1, 0), (2, 127), (4, 127), (5, 1_021), (33, 16_381), (512, 16_381), (513, 65_521)];
        for (backends, len) in expected {
            assert_eq!(table_len(backends), len, "{backends}");
        }
        assert_eq!(table_len(u32::MAX), 65_521);
        for (backends, len) in [(1, 0), (2, 1_021), (5, 1_021), (6, 16_381), (81, 16_381), (82, 65_521)] {
            assert_eq!(weighted_table_len(backends), len, "{backends} weighted ones");
        }
        assert_eq!(weighted_table_len(u32::MAX), 65_521);
    }

    #[test]
    fn table_lengths_are_prime() {
        for (_, len) in TABLE_SIZES {
            assert!((2..len).take_while(|d| d * d <= len).all(|d| len % d != 0), "{len}");
        }
    }
}
