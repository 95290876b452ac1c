//! Which entry of a service's table a flow takes.

use crate::{Addr, FlowKey};

/// Odd constants of the golden ratio family: one multiplication spreads all bits.
const MIX: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9];

#[inline(always)]
const fn fold(addr: &Addr) -> u64 {
    let [a, b, c, d] = addr.0;
    ((a ^ c) as u64) << 32 ^ ((b as u64) << 32) ^ d as u64
}

/// Hash of a flow: the same on every node of every cluster, so that a flow which changes node keeps its backend.
#[inline(always)]
pub const fn hash(key: &FlowKey) -> u32 {
    let ports = (key.sport_be as u64) << 32 | (key.dport_be as u64) << 16 | key.proto as u64;
    let mut h = fold(&key.src).wrapping_mul(MIX[0]);
    h = (h ^ h >> 29 ^ fold(&key.dst)).wrapping_mul(MIX[1]);
    h = (h ^ h >> 32 ^ ports).wrapping_mul(MIX[2]);
    (h >> 32) as u32
}

/// Index below `len` from a 32-bit hash, without a division: the verifier cannot follow one.
#[inline(always)]
pub const fn index(hash: u32, len: u32) -> u32 {
    ((hash as u64 * len as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn an_index_is_always_below_the_length() {
        for len in [1, 127, 65_521] {
            assert_eq!(index(0, len), 0);
            assert_eq!(index(u32::MAX, len), len - 1);
        }
    }

    #[test]
    fn flows_that_differ_in_the_source_port_alone_spread_evenly() {
        const SLOTS: u32 = 127;
        let mut hits = [0_u32; SLOTS as usize];
        for port in 1024..=u16::MAX {
            let key = FlowKey {
                src: Ipv4Addr::new(10, 1, 1, 2).into(),
                dst: Ipv4Addr::new(10, 101, 0, 1).into(),
                sport_be: port.to_be(),
                dport_be: 80_u16.to_be(),
                proto: 6,
            };
            hits[index(hash(&key), SLOTS) as usize] += 1;
        }
        let mean = (u32::from(u16::MAX) - 1023) / SLOTS;
        assert!(hits.iter().all(|&n| n > mean / 2 && n < mean * 2), "{hits:?}");
    }
}
