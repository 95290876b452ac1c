//! On the secure device: marks the mesh's VXLAN as having been decrypted. The mark survives decapsulation.
//!
//! The device has no link header: the packet starts with the IP header.

use agent_ebpf_common::{MARK_DECRYPTED, PROTO_UDP};
use aya_ebpf::programs::TcContext;

use crate::maps::CONFIG;
use crate::packet::{IPV4_LEN, NEXT, at, skb, v4};

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    if is_mesh_vxlan(ctx).unwrap_or(false) {
        // SAFETY: a field of the context.
        let mark = unsafe { (*skb(ctx)).mark };
        ctx.set_mark(mark | MARK_DECRYPTED);
    }
    NEXT
}

#[inline(always)]
fn is_mesh_vxlan(ctx: &TcContext) -> Option<bool> {
    let port = CONFIG.get(0)?.vxlan_port;
    let (start, end) = (ctx.data(), ctx.data_end());
    // As one check: the verifier learns nothing from a comparison of the bare start and end.
    if start + IPV4_LEN > end {
        return None;
    }
    // SAFETY: 20 bytes were checked, and `at` checks for itself.
    unsafe {
        if *(start as *const u8) >> 4 == 6 {
            let is_udp = at::<u8>(start, end, 6)? == PROTO_UDP;
            return Some(is_udp && u16::from_be(at::<u16>(start, end, 42)?) as u32 == port);
        }
    }
    let ip = v4(start, end, 0)?;
    if ip.proto != PROTO_UDP {
        return Some(false);
    }
    // Later fragments carry no port. They did come out of the secure device, and reassembly may keep any one's mark.
    Some((ip.has_ports && u16::from_be(ip.dport) as u32 == port) || (ip.is_fragment && !ip.has_ports))
}
