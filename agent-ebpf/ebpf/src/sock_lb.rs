//! Sockets: a connect to a service address goes to a backend, once per connection; `getpeername` still shows the service.
//!
//! An IPv6 socket that connects to a mapped IPv4 address runs the IPv6 hooks with the mapped form, which is the maps' form
//! of an IPv4 address anyway.

use agent_ebpf_common::verdict::{direction::SOCKET, reason};
use agent_ebpf_common::{Addr, Backend, PROTO_TCP, PROTO_UDP, SockOrigin};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;

use crate::count::{self, Who};
use crate::lb;
use crate::maps::SOCK_REV;

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// An address and port of the socket call, both as on the wire.
#[derive(Clone, Copy)]
struct Peer {
    addr: Addr,
    port_be: u16,
}

#[inline(always)]
pub fn connect4(ctx: &SockAddrContext) -> i32 {
    let peer = peer4(ctx);
    match connect(ctx, peer) {
        Outcome::Leave => ALLOW,
        Outcome::Refuse => refuse(),
        Outcome::To(new) => {
            set4(ctx, new);
            ALLOW
        }
    }
}

#[inline(always)]
pub fn connect6(ctx: &SockAddrContext) -> i32 {
    let peer = peer6(ctx);
    match connect(ctx, peer) {
        Outcome::Leave => ALLOW,
        Outcome::Refuse => refuse(),
        Outcome::To(new) => {
            set6(ctx, new);
            ALLOW
        }
    }
}

#[inline(always)]
pub fn getpeername4(ctx: &SockAddrContext) -> i32 {
    if let Some(service) = origin(ctx, peer4(ctx)) {
        set4(ctx, service);
    }
    ALLOW
}

#[inline(always)]
pub fn getpeername6(ctx: &SockAddrContext) -> i32 {
    if let Some(service) = origin(ctx, peer6(ctx)) {
        set6(ctx, service);
    }
    ALLOW
}

enum Outcome {
    Leave,
    Refuse,
    To(Peer),
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, peer: Peer) -> Outcome {
    // SAFETY: a field of the context.
    let proto = unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() } as u8;
    if proto != PROTO_TCP && proto != PROTO_UDP {
        return Outcome::Leave;
    }
    let Some(service) = lb::service(peer.addr, peer.port_be, proto) else { return Outcome::Leave };
    if service.backends == 0 {
        return Outcome::Refuse;
    }
    // A socket has no source port yet, so nothing to hash: chance spreads as well, and the table carries the weights.
    // SAFETY: a helper call without arguments.
    let chance = unsafe { bpf_get_prandom_u32() };
    let Some((_, backend)) = lb::choose(service, chance) else { return Outcome::Refuse };
    if backend.addr.is_v4() != peer.addr.is_v4() || !remember(ctx, peer, backend) {
        return Outcome::Refuse;
    }
    count::forward(SOCKET, reason::CONNECTED, Who { identity: 0, cluster: backend.cluster }, 0);
    Outcome::To(Peer { addr: backend.addr, port_be: backend.port_be })
}

#[inline(always)]
fn remember(ctx: &SockAddrContext, peer: Peer, backend: &Backend) -> bool {
    let origin = SockOrigin {
        service: peer.addr,
        backend: backend.addr,
        service_port_be: peer.port_be,
        backend_port_be: backend.port_be,
        pad: 0,
    };
    SOCK_REV.insert(&cookie(ctx), &origin, 0).is_ok()
}

/// The service that this socket asked for, if `peer` is the backend that it was given.
#[inline(always)]
fn origin(ctx: &SockAddrContext, peer: Peer) -> Option<Peer> {
    // SAFETY: an entry evicted under us fails the comparison, or shows a wrong name once.
    let origin = unsafe { SOCK_REV.get(&cookie(ctx))? };
    if origin.backend != peer.addr || origin.backend_port_be != peer.port_be {
        return None;
    }
    Some(Peer { addr: origin.service, port_be: origin.service_port_be })
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: a helper call with a valid context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

#[inline(always)]
fn refuse() -> i32 {
    // SAFETY: a helper call with a plain number; without it the caller would see "operation not permitted".
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

// The verifier allows whole-word access to the context only: volatile, so that the compiler neither merges nor splits.

#[inline(always)]
fn peer4(ctx: &SockAddrContext) -> Peer {
    let sa: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: fields of the context.
    unsafe {
        let addr = Addr::from_wire_v4((&raw const (*sa).user_ip4).read_volatile());
        Peer { addr, port_be: (&raw const (*sa).user_port).read_volatile() as u16 }
    }
}

#[inline(always)]
fn peer6(ctx: &SockAddrContext) -> Peer {
    let sa: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: fields of the context.
    unsafe {
        let words = (&raw const (*sa).user_ip6).cast::<u32>();
        let addr = Addr([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]);
        Peer { addr, port_be: (&raw const (*sa).user_port).read_volatile() as u16 }
    }
}

#[inline(always)]
fn set4(ctx: &SockAddrContext, peer: Peer) {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context that connect and getpeername programs may write.
    unsafe {
        (&raw mut (*sa).user_ip4).write_volatile(peer.addr.wire_v4());
        (&raw mut (*sa).user_port).write_volatile(peer.port_be as u32);
    }
}

#[inline(always)]
fn set6(ctx: &SockAddrContext, peer: Peer) {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context that connect and getpeername programs may write.
    unsafe {
        let words = (&raw mut (*sa).user_ip6).cast::<u32>();
        words.write_volatile(peer.addr.0[0]);
        words.add(1).write_volatile(peer.addr.0[1]);
        words.add(2).write_volatile(peer.addr.0[2]);
        words.add(3).write_volatile(peer.addr.0[3]);
        (&raw mut (*sa).user_port).write_volatile(peer.port_be as u32);
    }
}
