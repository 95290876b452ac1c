//! Per node: the merged view of all clusters, written into the kernel.
//!
//! ```text
//!   source ──deltas──▶ desired ──▶ compile (pure) ──▶ realize ──▶ maps        (control.rs: one task, one writer)
//!                                        │
//!                                        └─ plan ──▶ underlay ──▶ links, rules, routes, WireGuard
//!   netlink::watch ──pods, links──▶ both          probe ──paths up or down──▶ control
//! ```
//! Owns everything named `isthmus*` on the node: pins, the VXLAN and the WireGuard device, rules, routes. Must never flush:
//! what the kernel holds is adopted and compared, and nothing is withdrawn because a stream was lost.

pub mod app;
pub mod args;
pub mod attach;
pub mod bpf;
pub mod check;
pub mod cleanup;
pub mod compile;
pub mod control;
pub mod desired;
pub mod discovery;
pub mod dump;
pub mod enrol;
pub mod metrics;
pub mod mtu;
pub mod names;
pub mod netlink;
pub mod node_lock;
pub mod platform;
pub mod probe;
pub mod realize;
pub mod source;
pub mod status;
pub mod tunnel;
pub mod underlay;
