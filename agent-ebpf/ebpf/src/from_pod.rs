//! What a pod sends: service translation, anti-spoofing, and the way into the tunnel before the host stack sees it.
//!
//! Order of look-ups: one bit says whether the destination may be a service's address. If so, the flow of the pod's port
//! (an established flow never looks at its service again), then the service. If not, the destination's own entry, and the
//! trie of prefixes last, for what nothing else knew.

use agent_ebpf_common::verdict::{direction::FROM_POD, reason};
use agent_ebpf_common::{Addr, AddrKey, Endpoint, IpEntry};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::TcContext;

use crate::count::{self, NOBODY, Who};
use crate::maps::{CONFIG, ENDPOINTS};
use crate::packet::{ETH_LEN, NEXT, Network, V4, network, skb};
use crate::{clamp, flows, ipcache, lb, nat, tunnel};

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    match network(ctx) {
        Network::V4(ip) => v4(ctx, &ip),
        Network::V6 { dst, .. } => v6(ctx, dst),
        Network::Other | Network::Malformed => NEXT,
    }
}

#[inline(always)]
fn v4(ctx: &TcContext, ip: &V4) -> i32 {
    let dst = Addr::from_wire_v4(ip.dst);
    let mut next = dst;
    if ip.has_ports && lb::may_be_service(&dst) {
        match service(ctx, ip, dst) {
            Ok(Some(backend)) => next = backend,
            Ok(None) => {}
            Err(answer) => return answer,
        }
    }
    match ipcache::lookup(next) {
        Some(entry) => route(ctx, ip, entry),
        // A remote backend that no prefix covers must not find its own way.
        None if next != dst => count::drop(FROM_POD, reason::NO_PATH, NOBODY, ctx.len()),
        None => NEXT,
    }
}

/// Translates what goes to a service. The address of a remote backend is still to be routed; after a local one the packet
/// is the CNI's again: the program's answer.
#[inline(always)]
fn service(ctx: &TcContext, ip: &V4, dst: Addr) -> Result<Option<Addr>, i32> {
    let Some(to) =
        flows::target(ctx, ip, dst).map_err(|(reason, who)| count::drop(FROM_POD, reason, who, ctx.len()))?
    else {
        return Ok(None);
    };
    if nat::destination(ctx, ip, to.addr.wire_v4(), to.port_be).is_err() {
        return Err(count::drop(FROM_POD, reason::REWRITE_FAILED, NOBODY, ctx.len()));
    }
    if to.is_remote { Ok(Some(to.addr)) } else { Err(NEXT) }
}

/// IPv6 is not carried yet; what belongs to a peer must not leave in clear.
#[inline(always)]
fn v6(ctx: &TcContext, dst: Addr) -> i32 {
    match ipcache::lookup(dst) {
        Some(entry) if entry.is_remote() || entry.is_dropped() => {
            count::drop(FROM_POD, reason::FAMILY, NOBODY, ctx.len())
        }
        _ => NEXT,
    }
}

#[inline(always)]
fn route(ctx: &TcContext, ip: &V4, entry: &IpEntry) -> i32 {
    if !entry.is_remote() && !entry.is_dropped() {
        return NEXT;
    }
    let Some(pod) = sender(ctx, ip) else {
        return count::drop(FROM_POD, reason::SPOOFED_SOURCE, NOBODY, ctx.len());
    };
    let who = Who { identity: pod.identity, cluster: entry.cluster };
    if entry.is_dropped() || entry.node.is_unset() {
        return count::drop(FROM_POD, reason::NO_PATH, who, ctx.len());
    }
    let config = match CONFIG.get(0) {
        Some(config) if config.is_set() && config.vxlan_ifindex != 0 => config,
        _ => return count::drop(FROM_POD, reason::NOT_CONFIGURED, who, ctx.len()),
    };
    if ip.dont_fragment && ctx.len() - ETH_LEN as u32 > config.mtu && gso_size(ctx) == 0 {
        count::note(FROM_POD, reason::TOO_BIG, who, ctx.len());
        return NEXT;
    }
    clamp::syn(ctx, ip, config.mss);
    if tunnel::set(ctx, pod.identity, &entry.node).is_err() {
        return count::drop(FROM_POD, reason::TUNNEL_KEY, who, ctx.len());
    }
    count::forward(FROM_POD, reason::ENCAPSULATED, who, ctx.len());
    // SAFETY: a helper call with plain numbers.
    unsafe { bpf_redirect(config.vxlan_ifindex, 0) as i32 }
}

/// The pod that owns the source address, if the packet came from its device.
#[inline(always)]
pub fn sender(ctx: &TcContext, ip: &V4) -> Option<&'static Endpoint> {
    // SAFETY: entries are freed after a grace period (BPF_F_NO_PREALLOC).
    let pod = unsafe { ENDPOINTS.get(&AddrKey::shared(Addr::from_wire_v4(ip.src)))? };
    if pod.ifindex == ingress(ctx) { Some(pod) } else { None }
}

#[inline(always)]
pub fn ingress(ctx: &TcContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { (*skb(ctx)).ifindex }
}

#[inline(always)]
fn gso_size(ctx: &TcContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { (*skb(ctx)).gso_size }
}
