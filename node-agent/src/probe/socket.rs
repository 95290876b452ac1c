//! The probe's UDP socket. The kernel says which device a datagram came through: that is what makes it trusted.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::message::{LEN, Message};

#[derive(Debug)]
pub struct Socket(UdpSocket);

/// Which devices a datagram may leave by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Any,
    /// Only by the device of this index.
    Through(u32),
    /// By none.
    Closed,
}

/// A datagram with its way in.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub from: SocketAddrV4,
    /// Index of the device.
    pub device: u32,
    pub bytes: Vec<u8>,
}

impl Socket {
    pub fn bind(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((address, port))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        UdpSocket::from_std(socket).map(Self)
    }

    /// Never waits: a probe that cannot be sent now is one that was not answered. Bound to the device by index, so that not
    /// even a probe leaves in clear while routes are still being made.
    pub fn send(&self, to: SocketAddrV4, message: &Message, way: Way) -> io::Result<()> {
        let index = match way {
            Way::Any => 0,
            Way::Through(index) => i32::try_from(index).map_err(io::Error::other)?,
            Way::Closed => return Err(io::ErrorKind::NetworkDown.into()),
        };
        let none = nix::libc::in_addr { s_addr: 0 };
        let info = nix::libc::in_pktinfo { ipi_ifindex: index, ipi_spec_dst: none, ipi_addr: none };
        let (bytes, to) = (message.encode(), SockaddrIn::from(to));
        self.0.try_io(Interest::WRITABLE, || {
            let parts = [IoSlice::new(&bytes)];
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(self.0.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?;
            Ok(())
        })
    }

    pub async fn receive(&self) -> io::Result<Arrival> {
        loop {
            match self.0.async_io(Interest::READABLE, || self.read()).await {
                Ok(Some(arrival)) => return Ok(arrival),
                Ok(None) => {}
                // An ICMP answer to an earlier probe ("no route", "refused") is reported at the next call: a miss, no more.
                Err(error) if is_about_a_path(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// `None` for a datagram without the facts that it is judged by.
    fn read(&self) -> io::Result<Option<Arrival>> {
        // One byte more than a message has, so that a longer one does not pass for one.
        let mut bytes = [0; LEN + 1];
        let mut control = nix::cmsg_space!(nix::libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<SockaddrIn>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let device = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
            _ => None,
        });
        let (from, len) = (received.address, received.bytes);
        let (Some(device), Some(from)) = (device, from) else { return Ok(None) };
        Ok(Some(Arrival { from: from.into(), device, bytes: bytes[..len].to_vec() }))
    }
}

fn is_about_a_path(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, PermissionDenied};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable | PermissionDenied)
}
