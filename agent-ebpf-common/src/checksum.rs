//! Incremental update of the Internet checksum (RFC 1624, equation 3).

/// The IPv4 header's checksum after `old` became `new`; all values as they lie in memory, so byte order does not matter.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits before")]
pub const fn replace(check: u16, old: u32, new: u32) -> u16 {
    let mut sum = (!check) as u32;
    sum += (!old & 0xffff) + (!old >> 16);
    sum += (new & 0xffff) + (new >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(words: &[u16]) -> u16 {
        let sum: u32 = words.iter().map(|w| u32::from(*w)).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let mut header = [0x4500_u16, 0x0034, 0x1c46, 0x4000, 0x4006, 0x0a01, 0x0102, 0x0a65, 0x0001];
        for new in [0x0a02_0101_u32, 0xffff_ffff, 0, 0xc0a8_0001, 0x0001_ffff] {
            let before = full(&header);
            let old = u32::from(header[7]) << 16 | u32::from(header[8]);
            header[7] = u16::try_from(new >> 16).unwrap();
            header[8] = u16::try_from(new & 0xffff).unwrap();
            assert_eq!(replace(before, old, new), full(&header), "{new:#x}");
        }
    }
}
