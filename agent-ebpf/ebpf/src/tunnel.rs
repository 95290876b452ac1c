//! The tunnel's metadata: identity in the VNI, the nodes' addresses outside.

use agent_ebpf_common::Addr;
use aya_ebpf::bindings::{BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key};
use aya_ebpf::helpers::generated::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key};
use aya_ebpf::programs::TcContext;

use crate::packet::skb;

const TTL: u8 = 64;
const SIZE: u32 = size_of::<bpf_tunnel_key>() as u32;

/// Who sent a packet that came out of the tunnel.
pub struct Sender {
    pub identity: u32,
    pub node: Addr,
}

/// Never sets BPF_F_DONT_FRAGMENT: one oversize packet with it makes the kernel remember a smaller MTU for the node's own
/// address, and all tunnels to it are slow for ten minutes.
#[inline(always)]
pub fn set(ctx: &TcContext, identity: u32, node: &Addr) -> Result<(), ()> {
    // SAFETY: all zeroes is a valid key; the helper reads exactly SIZE bytes.
    let done = unsafe {
        let mut key: bpf_tunnel_key = core::mem::zeroed();
        key.tunnel_id = identity & 0x00ff_ffff;
        key.tunnel_ttl = TTL;
        let flags = if node.is_v4() {
            key.__bindgen_anon_1.remote_ipv4 = u32::from_be(node.wire_v4());
            BPF_F_ZERO_CSUM_TX
        } else {
            key.__bindgen_anon_1.remote_ipv6 = node.0;
            BPF_F_TUNINFO_IPV6
        };
        bpf_skb_set_tunnel_key(skb(ctx), &mut key, SIZE, flags as u64)
    };
    if done == 0 { Ok(()) } else { Err(()) }
}

#[inline(always)]
pub fn get(ctx: &TcContext) -> Option<Sender> {
    // SAFETY: the helper writes SIZE bytes, or fails with a flag of the other family.
    unsafe {
        let mut key: bpf_tunnel_key = core::mem::zeroed();
        if bpf_skb_get_tunnel_key(skb(ctx), &mut key, SIZE, 0) == 0 {
            let node = Addr::from_wire_v4(key.__bindgen_anon_1.remote_ipv4.to_be());
            return Some(Sender { identity: key.tunnel_id, node });
        }
        if bpf_skb_get_tunnel_key(skb(ctx), &mut key, SIZE, BPF_F_TUNINFO_IPV6 as u64) == 0 {
            return Some(Sender { identity: key.tunnel_id, node: Addr(key.__bindgen_anon_1.remote_ipv6) });
        }
    }
    None
}
