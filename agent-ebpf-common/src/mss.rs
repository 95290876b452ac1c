//! Finding and clamping the maximum segment size in a SYN's options (RFC 9293 section 3.7.1).

/// Longest option area of a TCP header.
pub const MAX_OPTIONS: usize = 40;
/// Room for a walk that reads two bytes at any masked index: the mask is what the verifier understands.
pub const BUFFER: usize = 64;
/// Options looked at before giving up. Real SYNs carry the size first, and five options at most.
const MAX_STEPS: usize = 10;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Offset of the size's two bytes within the options, of which the first `len` bytes of `options` are valid.
#[inline(always)]
pub fn find(options: &[u8; BUFFER], len: usize) -> Option<usize> {
    let mut at = 0;
    for _ in 0..MAX_STEPS {
        if at + 4 > len || at > MAX_OPTIONS - 4 {
            return None;
        }
        let kind = options[at & (BUFFER - 1)];
        if kind == END {
            return None;
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let size = options[(at + 1) & (BUFFER - 1)] as usize;
        if kind == MAXIMUM_SEGMENT_SIZE {
            return if size == 4 { Some(at + 2) } else { None };
        }
        if size < 2 {
            return None;
        }
        at += size;
    }
    None
}

/// The value to write, or `None` when the packet's own is small enough.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "limit is below a u16 in this branch")]
pub const fn clamp(current: u16, limit: u32) -> Option<u16> {
    if limit != 0 && limit < current as u32 { Some(limit as u16) } else { None }
}

/// Old and new value as `bpf_l4_csum_replace` wants them: the checksum adds 16-bit words at even offsets, so a value at an
/// odd offset counts byte-swapped.
#[inline(always)]
pub const fn checksum_words(old_be: u16, new_be: u16, offset: usize) -> (u16, u16) {
    if offset & 1 == 0 { (old_be, new_be) } else { (old_be.swap_bytes(), new_be.swap_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(options: &[u8]) -> Option<usize> {
        let mut buffer = [0xff; BUFFER];
        buffer[..options.len()].copy_from_slice(options);
        find(&buffer, options.len())
    }

    #[test]
    fn the_size_is_found_wherever_it_stands() {
        assert_eq!(walk(&[2, 4, 5, 180, 4, 2]), Some(2));
        assert_eq!(walk(&[1, 1, 1, 2, 4, 5, 180, 0]), Some(5));
        assert_eq!(walk(&[4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, 5, 180]), Some(14));
        assert_eq!(walk(&[3, 3, 7, 2, 4, 5, 180]), Some(5));
    }

    #[test]
    fn broken_options_end_the_walk() {
        for bad in [&[][..], &[2, 4, 5][..], &[2, 3, 5, 180][..], &[8, 0, 2, 4, 5, 180][..], &[0, 2, 4, 5, 180][..]] {
            assert_eq!(walk(bad), None, "{bad:?}");
        }
        assert_eq!(walk(&[1; 40]), None);
    }

    #[test]
    fn every_option_area_of_random_bytes_is_walked_without_leaving_it() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut buffer = [0; BUFFER];
            for byte in &mut buffer {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 60) as u8;
            }
            let len = (state % 41) as usize;
            assert!(find(&buffer, len).is_none_or(|at| at + 2 <= len));
        }
    }

    #[test]
    fn only_a_larger_size_is_replaced() {
        assert_eq!(clamp(1460, 1330), Some(1330));
        assert_eq!(clamp(1330, 1330), None);
        assert_eq!(clamp(536, 1330), None);
        assert_eq!(clamp(1460, 0), None);
    }
}
