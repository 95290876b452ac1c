//! The object for tests and benchmarks: the empty program as the floor, and two programs that prepare a packet as a kernel
//! run cannot and then jump into the program under test.
//!
//! It does not link the library: that would bring all maps of the datapath with it.
#![no_std]
#![no_main]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_F_ZERO_CSUM_TX, bpf_tunnel_key};
use aya_ebpf::helpers::generated::{bpf_skb_set_tunnel_key, bpf_skb_store_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::TcContext;

const NEXT: i32 = -1;
const SHOT: i32 = 2;

/// Entry 0 is the program under test.
#[map]
static JUMP: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Words: identity, the sending node's IPv4 address in host order.
#[map]
static TUNNEL: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// Words: next header to use, number of headers.
#[map]
static POSITION: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// What `replay` writes from the IP checksum to the destination port.
#[map]
static HEADERS: Array<[u8; 16]> = Array::with_max_entries(1, 0);

const REPLAY_AT: u32 = 24;
const REPLAY_LEN: u32 = 14;

#[classifier]
pub fn empty(_ctx: TcContext) -> i32 {
    NEXT
}

/// A packet as it comes out of the tunnel: reading a key gives the *local* address of the key that was set.
#[classifier]
pub fn keyed(ctx: TcContext) -> i32 {
    let Some([identity, node]) = TUNNEL.get(0).copied() else { return SHOT };
    // SAFETY: all zeroes is a valid key; the helper reads as much as it is told.
    unsafe {
        let mut key: bpf_tunnel_key = core::mem::zeroed();
        key.tunnel_id = identity;
        key.tunnel_ttl = 64;
        key.__bindgen_anon_3.local_ipv4 = node;
        let size = size_of::<bpf_tunnel_key>() as u32;
        if bpf_skb_set_tunnel_key(ctx.as_ptr().cast(), &mut key, size, BPF_F_ZERO_CSUM_TX as u64) != 0 {
            return SHOT;
        }
        JUMP.tail_call(&ctx, 0);
    }
    SHOT
}

/// A kernel run repeats with one packet, which the program under test has changed: each time, write the next header.
#[classifier]
pub fn replay(ctx: TcContext) -> i32 {
    let Some(position) = POSITION.get_ptr_mut(0) else { return SHOT };
    // SAFETY: one run at a time; the pointers are valid for the run.
    unsafe {
        let [at, count] = *position;
        let next = at + 1;
        (*position)[0] = if next < count { next } else { 0 };
        let Some(header) = HEADERS.get_ptr(at) else { return SHOT };
        if bpf_skb_store_bytes(ctx.as_ptr().cast(), REPLAY_AT, header.cast(), REPLAY_LEN, 0) != 0 {
            return SHOT;
        }
        JUMP.tail_call(&ctx, 0);
    }
    SHOT
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
