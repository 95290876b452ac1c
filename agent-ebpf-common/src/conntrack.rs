//! `FLOWS`, `CT`, `REVNAT` and `SOCK_REV`: what was translated, so that it stays so and can be turned back.
//!
//! A flow to a service address is known by the pod's port alone: forward and reverse packets find the same entry of `FLOWS`,
//! so that a new flow costs one insertion. A port that talks to a second service while the first flow lives (rare: the
//! kernel picks ports per destination, and a UDP socket may send to several) has that flow in `CT` and `REVNAT`, under full
//! keys; the port's entry says so.

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

/// A pod's port. Key of `FLOWS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct PortKey {
    pub addr: Addr,
    pub port_be: u16,
    pub proto: u8,
    pub pad: u8,
}

/// The flow of a pod's port.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortFlow {
    pub service: Addr,
    pub backend: Addr,
    pub service_port_be: u16,
    pub backend_port_be: u16,
    /// Backend number at the time of choosing.
    pub number: u32,
    /// Device that the source address was checked against; a packet from another device is checked anew.
    pub ifindex: u32,
    /// `FLAG_*`. Set by both directions without a lock: a lost flag keeps the port taken, and costs a slower way only.
    pub flags: u32,
}

impl PortFlow {
    /// The backend is in another cluster; without it the packet is the CNI's business once it is translated.
    pub const FLAG_REMOTE: u32 = 1;
    /// The pod has sent its FIN.
    pub const FLAG_POD_ENDED: u32 = 2;
    /// The backend has sent its FIN.
    pub const FLAG_BACKEND_ENDED: u32 = 4;
    /// Either side has sent a RST.
    pub const FLAG_RESET: u32 = 8;
    /// Other flows of this port are in `CT` and `REVNAT`.
    pub const FLAG_OVERFLOW: u32 = 16;

    /// Nothing more is expected: the port may be given to another flow.
    #[inline(always)]
    pub const fn is_over(&self) -> bool {
        let both = Self::FLAG_POD_ENDED | Self::FLAG_BACKEND_ENDED;
        self.flags & Self::FLAG_RESET != 0 || self.flags & both == both
    }
}

/// Where a flow in `CT` goes.
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

const _: () = assert!(size_of::<PortKey>() == 20);
const _: () = assert!(size_of::<PortFlow>() == 48 && core::mem::offset_of!(PortFlow, service_port_be) == 32);
const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<FlowTarget>() == 28);
const _: () = assert!(size_of::<NatTarget>() == 20);
const _: () = assert!(size_of::<SockOrigin>() == 40);
