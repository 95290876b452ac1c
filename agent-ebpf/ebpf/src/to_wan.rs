//! On the uplinks: the last look. What belongs to a peer's prefixes, or is the mesh's own tunnel in clear, does not leave.

use agent_ebpf_common::verdict::{direction::TO_WAN, reason};
use agent_ebpf_common::{Addr, Config, IpEntry, PROTO_UDP};
use aya_ebpf::programs::TcContext;

use crate::count::{self, NOBODY, Who};
use crate::ipcache;
use crate::maps::CONFIG;
use crate::packet::{NEXT, Network, V4, network};

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let dst = match network(ctx) {
        Network::V4(ip) => {
            if CONFIG.get(0).is_some_and(|config| is_clear_tunnel(config, &ip)) {
                return count::drop(TO_WAN, reason::CLEAR_TUNNEL, NOBODY, ctx.len());
            }
            Addr::from_wire_v4(ip.dst)
        }
        Network::V6 { dst, .. } => dst,
        Network::Other | Network::Malformed => return NEXT,
    };
    match ipcache::lookup(dst) {
        Some(entry) if belongs_to_peer(entry) => {
            count::drop(TO_WAN, reason::LEAK, Who { identity: 0, cluster: entry.cluster }, ctx.len())
        }
        _ => NEXT,
    }
}

#[inline(always)]
fn is_clear_tunnel(config: &Config, ip: &V4) -> bool {
    config.requires_encryption()
        && ip.proto == PROTO_UDP
        && ip.has_ports
        && u16::from_be(ip.dport) as u32 == config.vxlan_port
}

#[inline(always)]
fn belongs_to_peer(entry: &IpEntry) -> bool {
    entry.is_remote() || entry.is_dropped()
}
