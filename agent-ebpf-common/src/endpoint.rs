//! `ENDPOINTS`: the pods of this node. `NODES`: the nodes of other clusters.

/// How to hand a packet to a pod of this node, and who the pod is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Endpoint {
    pub identity: u32,
    /// The pod's host-side device. A packet that claims this address must come from it.
    pub ifindex: u32,
    /// The bridge that the device is a port of, or 0. Only for [`Endpoint::DELIVER_NEIGH`]: ARP on a bridge port is never answered.
    pub master: u32,
    /// `DELIVER_*`.
    pub how: u32,
    /// The pod's MAC.
    pub dmac: [u8; 6],
    /// What the pod takes for its gateway's MAC: the bridge's, or the host-side device's.
    pub smac: [u8; 6],
}

impl Endpoint {
    /// Write both MACs and redirect to `ifindex`: no neighbour entry needed.
    pub const DELIVER_MAC: u32 = 1;
    /// MAC unknown: let the kernel resolve the neighbour on `master`, or on `ifindex` without one.
    pub const DELIVER_NEIGH: u32 = 2;
}

/// A node of a peer cluster, by its underlay address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Node {
    pub cluster: u32,
    pub flags: u32,
}

const _: () = assert!(size_of::<Endpoint>() == 28 && core::mem::offset_of!(Endpoint, dmac) == 16);
const _: () = assert!(size_of::<Node>() == 8);
