//! `CT`, `REVNAT` and `SOCK_REV`: what was translated, so that it stays so and can be turned back.

use crate::Addr;

/// One direction of a flow. Key of `CT` (pod to service address) and of `REVNAT` (backend to pod).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct FlowKey {
    pub src: Addr,
    pub dst: Addr,
    pub sport_be: u16,
    pub dport_be: u16,
    pub proto: u32,
}

/// Where a flow to a service address goes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowTarget {
    pub addr: Addr,
    pub port_be: u16,
    /// `FLAG_*`.
    pub flags: u16,
    /// Backend number at the time of choosing.
    pub backend: u32,
    /// Device that the source address was checked against; a packet from another device is checked anew.
    pub ifindex: u32,
}

impl FlowTarget {
    /// The backend is in another cluster; without it the packet is the CNI's business once it is translated.
    pub const FLAG_REMOTE: u16 = 1;
}

/// What a reply's source is turned back into.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatTarget {
    pub addr: Addr,
    pub port_be: u16,
    pub pad: u16,
}

/// What a socket asked for, by its cookie: `getpeername` answers with it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SockOrigin {
    pub service: Addr,
    pub backend: Addr,
    pub service_port_be: u16,
    pub backend_port_be: u16,
    pub pad: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<FlowTarget>() == 28);
const _: () = assert!(size_of::<NatTarget>() == 20);
const _: () = assert!(size_of::<SockOrigin>() == 40);
