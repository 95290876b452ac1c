//! The flows to service addresses: which backend each goes to, and how its answers are turned back.

use agent_ebpf_common::verdict::{direction::FROM_POD, reason};
use agent_ebpf_common::{Addr, Backend, FlowTarget, NatTarget, PROTO_UDP, PortFlow, flow};
use aya_ebpf::programs::TcContext;

use crate::count::{self, NOBODY, Who};
use crate::from_pod::{ingress, sender};
use crate::lb;
use crate::maps::{CT, FLOWS, REVNAT};
use crate::packet::{V4, flow_key, port_key};

/// Where a packet to a service goes.
#[derive(Clone, Copy)]
pub struct Target {
    pub addr: Addr,
    pub port_be: u16,
    pub is_remote: bool,
}

/// The target, where the destination is a service's; or why there is none.
///
/// Entries may be evicted and given to another flow while they are looked at: address and port are compared here, and the
/// worst left is one packet to a wrong backend, which does not know its connection.
#[inline(always)]
pub fn target(ctx: &TcContext, ip: &V4, dst: Addr) -> Result<Option<Target>, (u8, Who)> {
    let mut place = Place::New;
    if let Some(entry) = FLOWS.get_ptr_mut(&port_key(ip.src, ip.sport, ip.proto)) {
        // SAFETY: values stay mapped for the run.
        let flow = unsafe { &mut *entry };
        place = Place::Reuse(entry);
        if flow.service == dst && flow.service_port_be == ip.dport {
            if is_kept(ctx, ip, flow) {
                end(flow, ip, PortFlow::FLAG_POD_ENDED);
                let is_remote = flow.flags & PortFlow::FLAG_REMOTE != 0;
                return Ok(Some(Target { addr: flow.backend, port_be: flow.backend_port_be, is_remote }));
            }
        } else if !flow.is_over() {
            if let Some(target) = overflowed(ctx, ip) {
                return Ok(Some(target));
            }
            place = Place::Beside(entry);
        }
    }
    open(ctx, ip, dst, place)
}

/// Where a new flow is remembered.
#[derive(Clone, Copy)]
enum Place {
    /// In an entry for its port.
    New,
    /// In its port's entry, whose flow is over or is opened again.
    Reuse(*mut PortFlow),
    /// Under its full key: another flow has the port's entry.
    Beside(*mut PortFlow),
}

/// Whether the flow goes on. A SYN opens a new one on the same port; UDP leaves a backend that is gone.
#[inline(always)]
fn is_kept(ctx: &TcContext, ip: &V4, flow: &PortFlow) -> bool {
    if ip.is_first() || flow.ifindex != ingress(ctx) {
        return false;
    }
    ip.proto != PROTO_UDP || is_there(flow.number, flow.backend, flow.backend_port_be)
}

#[inline(always)]
fn is_there(number: u32, addr: Addr, port_be: u16) -> bool {
    lb::live(number).is_some_and(|b| b.addr == addr && b.port_be == port_be)
}

/// The same for a flow beside another one of its port.
#[inline(always)]
fn overflowed(ctx: &TcContext, ip: &V4) -> Option<Target> {
    // SAFETY: values stay mapped for the run.
    let flow = unsafe { CT.get(&ip.flow())? };
    if ip.is_first() || flow.ifindex != ingress(ctx) {
        return None;
    }
    if ip.proto == PROTO_UDP && !is_there(flow.backend, flow.addr, flow.port_be) {
        return None;
    }
    let is_remote = flow.flags & FlowTarget::FLAG_REMOTE != 0;
    Some(Target { addr: flow.addr, port_be: flow.port_be, is_remote })
}

/// Notes how far a connection has come to its end.
#[inline(always)]
pub fn end(flow: &mut PortFlow, ip: &V4, side: u32) {
    if ip.is_rst {
        flow.flags |= PortFlow::FLAG_RESET;
    } else if ip.is_fin {
        flow.flags |= side;
    }
}

/// Chooses a backend for a new flow and remembers it.
#[inline(always)]
fn open(ctx: &TcContext, ip: &V4, dst: Addr, place: Place) -> Result<Option<Target>, (u8, Who)> {
    let Some(service) = lb::service(dst, ip.dport, ip.proto) else { return Ok(None) };
    let Some(pod) = sender(ctx, ip) else { return Err((reason::SPOOFED_SOURCE, NOBODY)) };
    let who = Who { identity: pod.identity, cluster: 0 };
    if ip.is_fragment {
        return Err((reason::FRAGMENT, who));
    }
    if service.backends == 0 {
        return Err((reason::NO_BACKEND, who));
    }
    let key = ip.flow();
    let Some((number, backend)) = lb::choose(service, flow::hash(&key)) else {
        return Err((reason::NO_BACKEND, who));
    };
    if !backend.addr.is_v4() {
        return Err((reason::FAMILY, who));
    }
    let is_remote = backend.flags & Backend::FLAG_REMOTE != 0;
    let target = Target { addr: backend.addr, port_be: backend.port_be, is_remote };
    // Without the way back the pod would get answers from a stranger.
    let remembered = match place {
        Place::New => {
            let flow = port_flow(ctx, ip, dst, &target, number);
            FLOWS.insert(&port_key(ip.src, ip.sport, ip.proto), &flow, 0)
        }
        // In place: a tenth of an insertion's time. The next reader is this port's, after the backend has answered; one on
        // another CPU that still looks for the old flow compares what it finds.
        Place::Reuse(entry) => {
            // SAFETY: values stay mapped for the run.
            unsafe {
                let overflow = (*entry).flags & PortFlow::FLAG_OVERFLOW;
                *entry = port_flow(ctx, ip, dst, &target, number);
                (*entry).flags |= overflow;
            }
            Ok(())
        }
        Place::Beside(first) => remember_beside(ctx, ip, dst, &target, number, first),
    };
    if remembered.is_err() {
        return Err((reason::REWRITE_FAILED, who));
    }
    count::forward(FROM_POD, reason::TRANSLATED, Who { cluster: backend.cluster, ..who }, ctx.len());
    Ok(Some(target))
}

#[inline(always)]
fn port_flow(ctx: &TcContext, ip: &V4, dst: Addr, target: &Target, number: u32) -> PortFlow {
    PortFlow {
        service: dst,
        backend: target.addr,
        service_port_be: ip.dport,
        backend_port_be: target.port_be,
        number,
        ifindex: ingress(ctx),
        flags: if target.is_remote { PortFlow::FLAG_REMOTE } else { 0 },
    }
}

#[inline(always)]
fn remember_beside(
    ctx: &TcContext,
    ip: &V4,
    dst: Addr,
    target: &Target,
    number: u32,
    first: *mut PortFlow,
) -> Result<(), i32> {
    let key = ip.flow();
    let reply = flow_key(target.addr, key.src, (target.port_be, ip.sport), key.proto);
    REVNAT.insert(&reply, &NatTarget { addr: dst, port_be: ip.dport, pad: 0 }, 0)?;
    let flags = if target.is_remote { FlowTarget::FLAG_REMOTE } else { 0 };
    let entry =
        FlowTarget { addr: target.addr, port_be: target.port_be, flags, backend: number, ifindex: ingress(ctx) };
    CT.insert(&key, &entry, 0)?;
    // SAFETY: values stay mapped for the run.
    unsafe { (*first).flags |= PortFlow::FLAG_OVERFLOW };
    Ok(())
}

/// The service address and port that a pod knows the sender of this packet by.
#[inline(always)]
pub fn origin(ip: &V4) -> Option<NatTarget> {
    let entry = FLOWS.get_ptr_mut(&port_key(ip.dst, ip.dport, ip.proto))?;
    // SAFETY: values stay mapped for the run.
    let flow = unsafe { &mut *entry };
    if flow.backend == Addr::from_wire_v4(ip.src) && flow.backend_port_be == ip.sport {
        end(flow, ip, PortFlow::FLAG_BACKEND_ENDED);
        return Some(NatTarget { addr: flow.service, port_be: flow.service_port_be, pad: 0 });
    }
    if flow.flags & PortFlow::FLAG_OVERFLOW == 0 {
        return None;
    }
    // SAFETY: values stay mapped for the run.
    unsafe { REVNAT.get(&ip.flow()) }.copied()
}
