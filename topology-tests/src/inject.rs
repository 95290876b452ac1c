//! Forged packets for the security tests: raw IPv4 with any source, VXLAN with any VNI, from any namespace of the lab.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns;

/// IP protocol numbers (RFC 790).
const ICMP: u8 = 1;
const UDP: u8 = 17;

/// A whole IPv4 packet, ready to send.
#[derive(Debug, Clone)]
pub struct Packet {
    destination: Ipv4Addr,
    bytes: Vec<u8>,
}

impl Packet {
    /// A UDP datagram with the addresses of choice.
    pub fn udp(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Self {
        let length = u16::try_from(payload.len() + 8).expect("test payloads are short");
        let mut datagram = Vec::with_capacity(payload.len() + 8);
        datagram.extend(source.port().to_be_bytes());
        datagram.extend(destination.port().to_be_bytes());
        datagram.extend(length.to_be_bytes());
        // No checksum: allowed over IPv4 (RFC 768).
        datagram.extend([0, 0]);
        datagram.extend(payload);
        Self::ip(*source.ip(), *destination.ip(), UDP, &datagram)
    }

    /// An ICMP echo request.
    pub fn ping(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let mut message = vec![8, 0, 0, 0, 0x15, 0x7a, 0, 1];
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Self::ip(source, destination, ICMP, &message)
    }

    /// An inner packet in VXLAN (RFC 7348), as if it came from the node `source`.
    pub fn vxlan(source: SocketAddrV4, destination: SocketAddrV4, vni: u32, inner: &Self) -> Self {
        Self::udp(source, destination, &Self::in_vxlan(vni, inner))
    }

    /// What a VXLAN datagram carries, for a socket that routes by its ports to send.
    pub fn in_vxlan(vni: u32, inner: &Self) -> Vec<u8> {
        let mut payload = vec![0x08, 0, 0, 0];
        payload.extend((vni << 8).to_be_bytes());
        // Inner Ethernet header: locally administered addresses, IPv4.
        payload.extend([0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00]);
        payload.extend(&inner.bytes);
        payload
    }

    fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Self {
        let length = u16::try_from(payload.len() + 20).expect("test payloads are short");
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        Self { destination, bytes }
    }
}

/// Sends packets from a namespace of the lab, past every socket's idea of its own address.
pub fn send(from_netns: &str, packets: &[Packet]) -> Result<()> {
    netns::within(from_netns, || {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
        let socket = raw.context("open a raw socket")?;
        socket.set_header_included_v4(true).context("bring own IP headers")?;
        for packet in packets {
            let target = SocketAddrV4::new(packet.destination, 0).into();
            socket.send_to(&packet.bytes, &target).with_context(|| format!("send to {}", packet.destination))?;
        }
        Ok(())
    })
}

/// Sends a datagram from a namespace of the lab through an ordinary socket: rules that match ports apply to it.
pub fn send_datagram(from_netns: &str, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Result<()> {
    netns::within(from_netns, || {
        let socket = std::net::UdpSocket::bind(source).with_context(|| format!("bind {source}"))?;
        socket.send_to(payload, destination).with_context(|| format!("send to {destination}"))?;
        Ok(())
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the loop above folded the carries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_header_sums_to_zero() {
        let packet = Packet::ping(Ipv4Addr::new(10, 2, 1, 2), Ipv4Addr::new(10, 1, 1, 2));
        assert_eq!(checksum(&packet.bytes[..20]), 0);
        assert_eq!(checksum(&packet.bytes[20..]), 0);
    }

    #[test]
    fn a_vxlan_packet_carries_the_vni_in_its_place() {
        let inner = Packet::ping(Ipv4Addr::new(10, 2, 1, 2), Ipv4Addr::new(10, 1, 1, 2));
        let node = |last, port| SocketAddrV4::new(Ipv4Addr::new(172, 30, 1, last), port);
        let outer = Packet::vxlan(node(12, 50000), node(11, 8473), 0x02_0123, &inner);
        assert_eq!(outer.bytes[28..36], [0x08, 0, 0, 0, 0x02, 0x01, 0x23, 0]);
    }
}
