//! What comes out of the tunnel: who may have sent it is checked outside in, then it goes straight to the pod's device.
//!
//! 1. It came through the secure device (the mark), where one is required.
//! 2. The outer source is a node of the cluster that the identity belongs to.
//! 3. The inner source lies in that cluster, and not on another of its nodes.
//! 4. The destination is a pod of this node.

use agent_ebpf_common::verdict::{direction::FROM_MESH, reason};
use agent_ebpf_common::{Addr, AddrKey, Config, Endpoint, MARK_DECRYPTED};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;

use crate::count::{self, NOBODY, Who};
use crate::maps::{CONFIG, ENDPOINTS, NODES};
use crate::packet::{Network, V4, network, skb};
use crate::tunnel::Sender;
use crate::{clamp, ipcache, tunnel};

/// Identities below this mean the same in every cluster, and take the sending node's.
const FIRST_OWNED_IDENTITY: u32 = 256;

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let shot = |reason, who| count::drop(FROM_MESH, reason, who, ctx.len());
    let config = match CONFIG.get(0) {
        Some(config) if config.is_set() => config,
        _ => return shot(reason::NOT_CONFIGURED, NOBODY),
    };
    if let Err(reason) = take_mark(ctx, config) {
        return shot(reason, NOBODY);
    }
    let Some(sender) = tunnel::get(ctx) else { return shot(reason::TUNNEL_KEY, NOBODY) };
    let cluster = match sending_cluster(config, &sender) {
        Ok(cluster) => cluster,
        Err(reason) => return shot(reason, NOBODY),
    };
    let ip = match network(ctx) {
        Network::V4(ip) => ip,
        Network::V6 { .. } => return shot(reason::FAMILY, Who { identity: 0, cluster }),
        Network::Other | Network::Malformed => return shot(reason::MALFORMED, Who { identity: 0, cluster }),
    };
    match check_source(&ip, &sender, cluster) {
        Ok(true) => {}
        Ok(false) => {
            count::note(FROM_MESH, reason::IDENTITY_LAG, Who { identity: sender.identity, cluster }, ctx.len())
        }
        Err(reason) => return shot(reason, Who { identity: 0, cluster }),
    }
    let who = Who { identity: sender.identity, cluster };
    // SAFETY: entries are freed after a grace period (BPF_F_NO_PREALLOC).
    let Some(pod) = (unsafe { ENDPOINTS.get(&AddrKey::shared(Addr::from_wire_v4(ip.dst))) }) else {
        return shot(reason::NO_ENDPOINT, who);
    };
    clamp::syn(ctx, &ip, config.mss);
    count::forward(FROM_MESH, reason::DELIVERED, who, ctx.len());
    deliver(ctx, pod)
}

/// The mark has done its work here: what follows must not see it.
#[inline(always)]
fn take_mark(ctx: &TcContext, config: &Config) -> Result<(), u8> {
    // SAFETY: a field of the context.
    let mark = unsafe { (*skb(ctx)).mark };
    if mark & MARK_DECRYPTED != 0 {
        ctx.set_mark(mark & !MARK_DECRYPTED);
        return Ok(());
    }
    if config.requires_encryption() { Err(reason::NOT_ENCRYPTED) } else { Ok(()) }
}

#[inline(always)]
fn sending_cluster(config: &Config, sender: &Sender) -> Result<u32, u8> {
    // SAFETY: entries are freed after a grace period (BPF_F_NO_PREALLOC).
    let Some(node) = (unsafe { NODES.get(&sender.node) }) else { return Err(reason::OUTER_SOURCE) };
    let claimed = if sender.identity < FIRST_OWNED_IDENTITY {
        node.cluster
    } else {
        sender.identity >> (config.identity_shift & 31)
    };
    if claimed != node.cluster || claimed == config.cluster {
        return Err(reason::OUTER_SOURCE);
    }
    Ok(claimed)
}

/// Whether the known identity is the one that the packet carries. Another one only lags: the sender's node knows best.
#[inline(always)]
fn check_source(ip: &V4, sender: &Sender, cluster: u32) -> Result<bool, u8> {
    let src = Addr::from_wire_v4(ip.src);
    if let Some(entry) = ipcache::exact(src) {
        if entry.cluster != cluster || entry.is_own() {
            return Err(reason::INNER_SOURCE);
        }
        if entry.node != sender.node {
            return Err(reason::OTHER_NODE);
        }
        return Ok(entry.identity == sender.identity);
    }
    match ipcache::prefix(src) {
        Some(entry) if entry.cluster == cluster && !entry.is_own() => Ok(false),
        _ => Err(reason::INNER_SOURCE),
    }
}

#[inline(always)]
fn deliver(ctx: &TcContext, pod: &Endpoint) -> i32 {
    // SAFETY: both MACs lie side by side in the entry, destination first, as in the frame.
    unsafe {
        if pod.how == Endpoint::DELIVER_MAC {
            let macs = pod.dmac.as_ptr();
            if bpf_skb_store_bytes(skb(ctx), 0, macs.cast(), 12, 0) != 0 {
                return count::drop(FROM_MESH, reason::REWRITE_FAILED, NOBODY, ctx.len());
            }
            return bpf_redirect(pod.ifindex, 0) as i32;
        }
        let device = if pod.master == 0 { pod.ifindex } else { pod.master };
        bpf_redirect_neigh(device, core::ptr::null_mut(), 0, 0) as i32
    }
}
