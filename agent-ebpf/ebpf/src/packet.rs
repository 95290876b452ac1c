//! Reading headers by direct access.

use agent_ebpf_common::{Addr, FlowKey, PROTO_TCP, PROTO_UDP, PortKey};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_pull_data;
use aya_ebpf::programs::TcContext;

pub const ETH_LEN: usize = 14;
pub const IPV4_LEN: usize = 20;
/// Transport header of an IPv4 packet without options. Packets with options have no ports as far as the mesh is concerned.
pub const L4: usize = ETH_LEN + IPV4_LEN;

const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const TCP_FLAGS: usize = 13;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const DONT_FRAGMENT: u16 = 0x4000;

pub const NEXT: i32 = -1;
pub const SHOT: i32 = 2;

/// What is at the network layer.
pub enum Network {
    V4(V4),
    V6 {
        src: Addr,
        dst: Addr,
    },
    /// ARP and the like.
    Other,
    Malformed,
}

/// An IPv4 packet's facts. Addresses and ports are as on the wire.
#[derive(Clone, Copy)]
pub struct V4 {
    pub src: u32,
    pub dst: u32,
    pub proto: u8,
    pub check: u16,
    pub sport: u16,
    pub dport: u16,
    /// Both ports were read.
    pub has_ports: bool,
    pub is_fragment: bool,
    pub dont_fragment: bool,
    pub is_syn: bool,
    pub is_ack: bool,
    pub is_fin: bool,
    pub is_rst: bool,
}

impl V4 {
    /// A SYN that opens a connection.
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.is_syn && !self.is_ack
    }

    #[inline(always)]
    pub fn flow(&self) -> FlowKey {
        flow_key(
            Addr::from_wire_v4(self.src),
            Addr::from_wire_v4(self.dst),
            (self.sport, self.dport),
            self.proto as u32,
        )
    }
}

/// A key written in whole words: the kernel hashes it in words, and a word that was stored in two halves makes it wait.
#[inline(always)]
pub fn flow_key(src: Addr, dst: Addr, ports: (u16, u16), proto: u32) -> FlowKey {
    let ports = ports.0 as u32 | (ports.1 as u32) << 16;
    let ([a, b, c, d], [e, f, g, h]) = (src.0, dst.0);
    // SAFETY: FlowKey is repr(C): two addresses of four words, two ports in one word on this little-endian target, and a word.
    unsafe { core::mem::transmute([a, b, c, d, e, f, g, h, ports, proto]) }
}

#[inline(always)]
pub fn port_key(addr: u32, port: u16, proto: u8) -> PortKey {
    let [a, b, c, d] = Addr::from_wire_v4(addr).0;
    // SAFETY: PortKey is repr(C): four words, then port, protocol and padding in one word on this little-endian target.
    unsafe { core::mem::transmute([a, b, c, d, port as u32 | (proto as u32) << 16]) }
}

#[inline(always)]
pub fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

/// Reads `T` at `offset` from `start`, if it lies in the linear part.
///
/// # Safety
/// `start` must be `ctx.data()` and `end` `ctx.data_end()`, read after the last helper that moves them.
#[inline(always)]
pub unsafe fn at<T: Copy>(start: usize, end: usize, offset: usize) -> Option<T> {
    if start + offset + size_of::<T>() > end {
        return None;
    }
    // SAFETY: bounds checked above; the verifier checks that too.
    Some(unsafe { load((start + offset) as *const T) })
}

/// One load, aligned or not. The kernel lets programs read packets so wherever the CPU can; `read_unaligned` becomes a load
/// and a shift for each byte on this target, which doubles the time of every program.
///
/// # Safety
/// `size_of::<T>()` bytes from `pointer` lie in the packet.
#[inline(always)]
unsafe fn load<T: Copy>(pointer: *const T) -> T {
    // SAFETY: as demanded of the caller; alignment does not matter to the machine that runs this.
    unsafe { *pointer }
}

/// Reads the headers of an Ethernet frame.
#[inline(always)]
pub fn network(ctx: &TcContext) -> Network {
    let (mut start, mut end) = (ctx.data(), ctx.data_end());
    if start + L4 + 20 > end {
        // Headers outside the linear part, or a short packet: either way only what is there can be pulled.
        let want = if ctx.len() < (L4 + 20) as u32 { ctx.len() } else { (L4 + 20) as u32 };
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_skb_pull_data(skb(ctx), want) };
        (start, end) = (ctx.data(), ctx.data_end());
    }
    if start + ETH_LEN > end {
        return Network::Malformed;
    }
    // SAFETY: start and end are fresh.
    let ethertype = unsafe { at::<u16>(start, end, 12) };
    match ethertype {
        Some(ETHERTYPE_IPV4) => v4(start, end, ETH_LEN).map_or(Network::Malformed, Network::V4),
        Some(ETHERTYPE_IPV6) => v6(start, end).unwrap_or(Network::Malformed),
        _ => Network::Other,
    }
}

#[inline(always)]
fn v6(start: usize, end: usize) -> Option<Network> {
    // SAFETY: start and end are the packet's; each read checks its bounds.
    unsafe {
        let src = at::<[u32; 4]>(start, end, ETH_LEN + 8)?;
        let dst = at::<[u32; 4]>(start, end, ETH_LEN + 24)?;
        Some(Network::V6 { src: Addr(src), dst: Addr(dst) })
    }
}

/// An IPv4 packet whose header starts at `base`.
#[inline(always)]
pub fn v4(start: usize, end: usize, base: usize) -> Option<V4> {
    if start + base + IPV4_LEN > end {
        return None;
    }
    let ip = (start + base) as *const u8;
    // SAFETY: 20 bytes from `ip` were checked above, and what follows checks for itself.
    unsafe {
        let version_and_length = *ip;
        if version_and_length >> 4 != 4 {
            return None;
        }
        let fragment = u16::from_be(load(ip.add(6).cast()));
        let mut out = V4 {
            src: load(ip.add(12).cast()),
            dst: load(ip.add(16).cast()),
            proto: *ip.add(9),
            check: load(ip.add(10).cast()),
            sport: 0,
            dport: 0,
            has_ports: false,
            is_fragment: fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0,
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            is_syn: false,
            is_ack: false,
            is_fin: false,
            is_rst: false,
        };
        let plain = version_and_length & 0xf == 5 && fragment & FRAGMENT_OFFSET == 0;
        let l4 = base + IPV4_LEN;
        if !plain || (out.proto != PROTO_TCP && out.proto != PROTO_UDP) || start + l4 + 8 > end {
            return Some(out);
        }
        let ports = (start + l4) as *const u16;
        out.sport = load(ports);
        out.dport = load(ports.add(1));
        out.has_ports = true;
        if out.proto == PROTO_TCP {
            let flags = at::<u8>(start, end, l4 + TCP_FLAGS).unwrap_or(0);
            out.is_syn = flags & SYN != 0;
            out.is_ack = flags & ACK != 0;
            out.is_fin = flags & FIN != 0;
            out.is_rst = flags & RST != 0;
        }
        Some(out)
    }
}
