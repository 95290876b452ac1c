//! What a pod sends: service translation, anti-spoofing, and the way into the tunnel before the host stack sees it.
//!
//! Order of look-ups: the destination's own entry first, because pods that a socket program has translated send straight
//! to pod addresses; then the flow table (an established flow never looks at its service again); then the service; the
//! trie of prefixes last, for what nothing else knew.

use agent_ebpf_common::verdict::{direction::FROM_POD, reason};
use agent_ebpf_common::{
    Addr, AddrKey, Backend, Endpoint, FlowKey, FlowTarget, IpEntry, NatTarget, PROTO_UDP, Service, flow,
};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::TcContext;

use crate::count::{self, NOBODY, Who};
use crate::maps::{CONFIG, CT, ENDPOINTS, REVNAT};
use crate::packet::{ETH_LEN, NEXT, Network, V4, flow_key, network, skb};
use crate::{clamp, ipcache, lb, nat, tunnel};

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
    let entry = match ipcache::exact(dst) {
        Some(entry) => entry,
        None => match service_or_prefix(ctx, ip, dst) {
            Ok(entry) => entry,
            Err(answer) => return answer,
        },
    };
    route(ctx, ip, entry)
}

/// For a destination that is no pod: the entry to route by, after translation where it is a service's address; or the
/// program's answer.
#[inline(always)]
fn service_or_prefix(ctx: &TcContext, ip: &V4, dst: Addr) -> Result<&'static IpEntry, i32> {
    let Some(target) = target(ctx, ip, dst)? else { return ipcache::prefix(dst).ok_or(NEXT) };
    if nat::destination(ctx, ip, target.addr.wire_v4(), target.port_be).is_err() {
        return Err(count::drop(FROM_POD, reason::REWRITE_FAILED, NOBODY, ctx.len()));
    }
    if target.flags & FlowTarget::FLAG_REMOTE == 0 {
        return Err(NEXT);
    }
    // A remote backend that no prefix covers must not find its own way.
    ipcache::lookup(target.addr).ok_or_else(|| count::drop(FROM_POD, reason::NO_PATH, NOBODY, ctx.len()))
}

/// The backend, where the destination is a service's address.
#[inline(always)]
fn target(ctx: &TcContext, ip: &V4, dst: Addr) -> Result<Option<FlowTarget>, i32> {
    if !ip.has_ports {
        return Ok(None);
    }
    let key = ip.flow();
    if let Some(target) = known(ctx, ip, &key) {
        return Ok(Some(*target));
    }
    let Some(service) = lb::service(dst, ip.dport, ip.proto) else { return Ok(None) };
    let opened = open(ctx, ip, &key, service);
    opened.map(Some).map_err(|(reason, who)| count::drop(FROM_POD, reason, who, ctx.len()))
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

/// Where this flow went before. A SYN opens a new flow on old ports; UDP leaves a backend that is gone.
#[inline(always)]
fn known(ctx: &TcContext, ip: &V4, key: &FlowKey) -> Option<&'static FlowTarget> {
    // SAFETY: an entry that is evicted under us may be given to another flow; the source check by device and the
    // checksum-neutral rewrite then misdirect one packet at most, within this pod's own flows or to a drop.
    let target = unsafe { CT.get(key)? };
    if ip.is_first() || target.ifindex != ingress(ctx) {
        return None;
    }
    if ip.proto == PROTO_UDP && !still_there(target) {
        return None;
    }
    Some(target)
}

#[inline(always)]
fn still_there(target: &FlowTarget) -> bool {
    lb::live(target.backend).is_some_and(|b| b.addr == target.addr && b.port_be == target.port_be)
}

/// Chooses a backend for a new flow and remembers both directions.
#[inline(always)]
fn open(ctx: &TcContext, ip: &V4, key: &FlowKey, service: &Service) -> Result<FlowTarget, (u8, Who)> {
    let Some(pod) = sender(ctx, ip) else { return Err((reason::SPOOFED_SOURCE, NOBODY)) };
    let who = Who { identity: pod.identity, cluster: 0 };
    if ip.is_fragment {
        return Err((reason::FRAGMENT, who));
    }
    if service.backends == 0 {
        return Err((reason::NO_BACKEND, who));
    }
    let Some((number, backend)) = lb::choose(service, flow::hash(key)) else {
        return Err((reason::NO_BACKEND, who));
    };
    if !backend.addr.is_v4() {
        return Err((reason::FAMILY, who));
    }
    let flags = if backend.flags & Backend::FLAG_REMOTE != 0 { FlowTarget::FLAG_REMOTE } else { 0 };
    let target =
        FlowTarget { addr: backend.addr, port_be: backend.port_be, flags, backend: number, ifindex: ingress(ctx) };
    let reply = flow_key(target.addr, key.src, (target.port_be, key.sport_be), key.proto);
    let origin = NatTarget { addr: key.dst, port_be: key.dport_be, pad: 0 };
    // Without the way back the pod would get answers from a stranger.
    if REVNAT.insert(&reply, &origin, 0).is_err() || CT.insert(key, &target, 0).is_err() {
        return Err((reason::REWRITE_FAILED, who));
    }
    count::forward(FROM_POD, reason::TRANSLATED, Who { cluster: backend.cluster, ..who }, ctx.len());
    Ok(target)
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
fn sender(ctx: &TcContext, ip: &V4) -> Option<&'static Endpoint> {
    // SAFETY: entries are freed after a grace period (BPF_F_NO_PREALLOC).
    let pod = unsafe { ENDPOINTS.get(&AddrKey::shared(Addr::from_wire_v4(ip.src)))? };
    if pod.ifindex == ingress(ctx) { Some(pod) } else { None }
}

#[inline(always)]
fn ingress(ctx: &TcContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { (*skb(ctx)).ifindex }
}

#[inline(always)]
fn gso_size(ctx: &TcContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { (*skb(ctx)).gso_size }
}
