//! Crafting and checking frames.

use std::net::{Ipv4Addr, Ipv6Addr};

use agent_ebpf::common::{PROTO_TCP, PROTO_UDP};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;
pub(crate) const ETH: usize = 14;
pub(crate) const L4: usize = 34;
const DONT_FRAGMENT: u8 = 0x40;
const MORE_FRAGMENTS: u8 = 0x20;

/// Description of an IPv4 frame.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) proto: u8,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) tcp_flags: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: usize,
    pub(crate) dont_fragment: bool,
    pub(crate) first_fragment: bool,
    pub(crate) udp_checksum: bool,
}

pub(crate) fn tcp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), tcp_flags: u8) -> Frame {
    Frame {
        src: src.0,
        dst: dst.0,
        proto: PROTO_TCP,
        sport: src.1,
        dport: dst.1,
        tcp_flags,
        options: Vec::new(),
        payload: 8,
        dont_fragment: true,
        first_fragment: false,
        udp_checksum: true,
    }
}

pub(crate) fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Frame {
    Frame { proto: PROTO_UDP, ..tcp(src, dst, 0) }
}

impl Frame {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let l4 = self.transport();
        let mut out = [0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8, 0x08, 0x00].to_vec();
        out.extend(self.network(&l4));
        out.extend(l4);
        out
    }

    /// Without the link header, as a tunnel device of the third layer gives it.
    pub(crate) fn without_link(&self) -> Vec<u8> {
        self.bytes()[ETH..].to_vec()
    }

    fn network(&self, l4: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + l4.len()).unwrap().to_be_bytes();
        let flags = if self.first_fragment { MORE_FRAGMENTS } else { u8::from(self.dont_fragment) * DONT_FRAGMENT };
        let mut ip = vec![0x45, 0, length[0], length[1], 0x12, 0x34, flags, 0, 64, self.proto, 0, 0];
        ip.extend(self.src.octets());
        ip.extend(self.dst.octets());
        let check = sum(&[&ip]);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        ip
    }

    fn transport(&self) -> Vec<u8> {
        let mut l4 = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        let check_at = if self.proto == PROTO_TCP {
            let words = 5 + self.options.len().div_ceil(4);
            l4.extend([
                0,
                0,
                0,
                1,
                0,
                0,
                0,
                2,
                u8::try_from(words << 4).unwrap(),
                self.tcp_flags,
                0x72,
                0x10,
                0,
                0,
                0,
                0,
            ]);
            l4.extend(&self.options);
            l4.resize(words * 4, 0);
            16
        } else {
            l4.extend(u16::try_from(8 + self.payload).unwrap().to_be_bytes());
            l4.extend([0, 0]);
            6
        };
        l4.extend((0..self.payload).map(|n| u8::try_from(n % 251).unwrap()));
        if self.proto == PROTO_TCP || self.udp_checksum {
            let check = transport_sum(self.src, self.dst, self.proto, &l4);
            l4[check_at..check_at + 2].copy_from_slice(&check.to_be_bytes());
        }
        l4
    }
}

/// An IPv6 TCP frame; the programs look at its addresses only.
pub(crate) fn v6(src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let mut out = [0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64].to_vec();
    out.extend(src.octets());
    out.extend(dst.octets());
    out.resize(ETH + 40 + 20, 0);
    out
}

/// An ARP request's shape.
pub(crate) fn arp() -> Vec<u8> {
    let mut out = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 8, 0x08, 0x06].to_vec();
    out.resize(64, 0);
    out
}

fn transport_sum(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, l4: &[u8]) -> u16 {
    let length = u16::try_from(l4.len()).unwrap().to_be_bytes();
    sum(&[&src.octets(), &dst.octets(), &[0, proto], &length, l4])
}

/// The Internet checksum over parts of even length (but the last).
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

pub(crate) fn src(frame: &[u8]) -> (Ipv4Addr, u16) {
    (address(frame, 26), word(frame, L4))
}

pub(crate) fn dst(frame: &[u8]) -> (Ipv4Addr, u16) {
    (address(frame, 30), word(frame, L4 + 2))
}

fn address(frame: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
}

pub(crate) fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Both checksums are right, summed anew.
pub(crate) fn assert_checksums(frame: &[u8]) {
    assert_eq!(sum(&[&frame[ETH..L4]]), 0, "IP header checksum");
    let l4 = &frame[L4..];
    assert_eq!(transport_sum(address(frame, 26), address(frame, 30), frame[23], l4), 0, "transport checksum");
}
