//! What the eBPF programs and the agent must agree on: map keys, map values, constants, and the pure packet arithmetic.
//!
//! Owns layouts and numbers. Must never name a kernel helper, allocate, or hold state: the same code runs in the kernel
//! and in host tests. Types are `repr(C)`, integers only, without implicit padding; each has its size asserted here,
//! because a pinned map outlives the agent that made it.
//!
//! A change of a layout or of a meaning needs a new [`LAYOUT`]: it names the pin folder.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "in a BPF object a call that is not inlined costs a frame and the verifier's knowledge"
)]

#[cfg(test)]
extern crate std;

pub mod addr;
pub mod checksum;
pub mod config;
pub mod conntrack;
pub mod counter;
pub mod endpoint;
pub mod flow;
pub mod ipcache;
pub mod mss;
pub mod service;
pub mod verdict;

#[cfg(feature = "user")]
mod pod;

pub use addr::{Addr, AddrKey};
pub use config::Config;
pub use conntrack::{FlowKey, FlowTarget, NatTarget, PortFlow, PortKey, SockOrigin};
pub use counter::{CounterKey, CounterValue};
pub use endpoint::{Endpoint, Node};
pub use ipcache::IpEntry;
pub use service::{Backend, Service, ServiceKey};

/// Version of the maps' layout; part of the pin path `<bpffs>/isthmus/<LAYOUT>/`.
pub const LAYOUT: &str = "v1";

/// Set on a packet by `from_tunnel`, required and cleared by `from_mesh`. One bit, clear of kube-proxy's (0x4000, 0x8000),
/// Cilium's (0x0f00) and Calico's (0xffff0000); it lives from the secure device to the VXLAN device only.
pub const MARK_DECRYPTED: u32 = 0x1000;

/// Every address is keyed by cluster as well, for overlapping pod prefixes; today all clusters share this one address space.
pub const SPACE_SHARED: u32 = 0;

/// IP protocol numbers that the load balancer translates.
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
