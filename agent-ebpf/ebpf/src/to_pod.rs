//! What a pod receives: answers to flows that `from_pod` translated come from the service address again.

use agent_ebpf_common::verdict::{direction::TO_POD, reason};
use aya_ebpf::programs::TcContext;

use crate::count::{self, NOBODY};
use crate::packet::{NEXT, Network, network};
use crate::{flows, nat};

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let Network::V4(ip) = network(ctx) else { return NEXT };
    if !ip.has_ports {
        return NEXT;
    }
    let Some(origin) = flows::origin(&ip) else { return NEXT };
    let (addr, port) = (origin.addr.wire_v4(), origin.port_be);
    match nat::source(ctx, &ip, addr, port) {
        Ok(()) => NEXT,
        Err(()) => count::drop(TO_POD, reason::REWRITE_FAILED, NOBODY, ctx.len()),
    }
}
