//! Clamping the segment size of SYNs to what the tunnel carries.

use agent_ebpf_common::mss;
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;

use crate::packet::{L4, V4, at, skb};

const OPTIONS: u32 = L4 as u32 + 20;
const TCP_CHECK: u32 = L4 as u32 + 16;
const TCP_LENGTH: usize = L4 + 12;

/// Best effort: a SYN without the option, or with broken ones, passes as it is.
#[inline(always)]
pub fn syn(ctx: &TcContext, ip: &V4, limit: u32) {
    if ip.is_syn && limit != 0 {
        rewrite(ctx, limit);
    }
}

#[inline(always)]
fn rewrite(ctx: &TcContext, limit: u32) -> Option<()> {
    // SAFETY: both ends are fresh.
    let length = unsafe { at::<u8>(ctx.data(), ctx.data_end(), TCP_LENGTH)? };
    let options = ((length >> 4) as u32 * 4).wrapping_sub(20) & 63;
    if options == 0 || options > mss::MAX_OPTIONS as u32 {
        return None;
    }
    let mut buffer = [0; mss::BUFFER];
    // SAFETY: the buffer is longer than the largest option area; offsets are inside the packet or the helper fails.
    unsafe {
        if bpf_skb_load_bytes(skb(ctx).cast(), OPTIONS, buffer.as_mut_ptr().cast(), options) != 0 {
            return None;
        }
        let found = mss::find(&buffer, options as usize)?;
        let high = buffer[found & (mss::BUFFER - 1)];
        let low = buffer[(found + 1) & (mss::BUFFER - 1)];
        let current = u16::from_be_bytes([high, low]);
        let new = mss::clamp(current, limit)?;
        let (old, value) = mss::checksum_words(current.to_be(), new.to_be(), found);
        bpf_l4_csum_replace(skb(ctx), TCP_CHECK, old as u64, value as u64, 2);
        let new = new.to_be();
        bpf_skb_store_bytes(skb(ctx), OPTIONS + found as u32, core::ptr::from_ref(&new).cast(), 2, 0);
    }
    Some(())
}
