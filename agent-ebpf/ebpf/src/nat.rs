//! Rewriting one side of an IPv4 packet with its checksums.

use agent_ebpf_common::{PROTO_UDP, checksum};
use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;

use crate::packet::{ETH_LEN, L4, V4, skb};

const CHECK: u32 = ETH_LEN as u32 + 10;
const TCP_CHECK: u32 = L4 as u32 + 16;
const UDP_CHECK: u32 = L4 as u32 + 6;

/// Header checksum, both addresses and both ports lie side by side: one write for all.
#[repr(C)]
struct Block {
    /// Not written: it lets the words behind it lie as words.
    pad: u16,
    check: u16,
    src: u32,
    dst: u32,
    sport: u16,
    dport: u16,
}

const WRITTEN: u32 = 14;
const _: () = assert!(size_of::<Block>() == WRITTEN as usize + 2);

/// Sends the packet to another address and port.
#[inline(always)]
pub fn destination(ctx: &TcContext, ip: &V4, addr: u32, port: u16) -> Result<(), ()> {
    transport(ctx, ip.proto, (ip.dst, addr), (ip.dport, port))?;
    let check = checksum::replace(ip.check, ip.dst, addr);
    write(ctx, &Block { pad: 0, check, src: ip.src, dst: addr, sport: ip.sport, dport: port })
}

/// Makes the packet come from another address and port.
#[inline(always)]
pub fn source(ctx: &TcContext, ip: &V4, addr: u32, port: u16) -> Result<(), ()> {
    transport(ctx, ip.proto, (ip.src, addr), (ip.sport, port))?;
    let check = checksum::replace(ip.check, ip.src, addr);
    write(ctx, &Block { pad: 0, check, src: addr, dst: ip.dst, sport: port, dport: ip.dport })
}

/// The helper, not arithmetic: only it knows whether the device will finish the checksum.
#[inline(always)]
fn transport(ctx: &TcContext, proto: u8, addr: (u32, u32), port: (u16, u16)) -> Result<(), ()> {
    let (at, zero_means_none) =
        if proto == PROTO_UDP { (UDP_CHECK, BPF_F_MARK_MANGLED_0 as u64) } else { (TCP_CHECK, 0) };
    // SAFETY: helper calls with a valid context.
    unsafe {
        let flags = zero_means_none | BPF_F_PSEUDO_HDR as u64 | 4;
        if bpf_l4_csum_replace(skb(ctx), at, addr.0 as u64, addr.1 as u64, flags) != 0 {
            return Err(());
        }
        let flags = zero_means_none | 2;
        if port.0 != port.1 && bpf_l4_csum_replace(skb(ctx), at, port.0 as u64, port.1 as u64, flags) != 0 {
            return Err(());
        }
    }
    Ok(())
}

#[inline(always)]
fn write(ctx: &TcContext, block: &Block) -> Result<(), ()> {
    // SAFETY: the block is on the stack and as long as said. A helper rather than a direct write: a program with direct
    // writes unshares every cloned packet before it starts, and TCP's packets are clones.
    let done = unsafe {
        let from = core::ptr::from_ref(&block.check);
        bpf_skb_store_bytes(skb(ctx), CHECK, from.cast(), WRITTEN, 0)
    };
    if done == 0 { Ok(()) } else { Err(()) }
}
