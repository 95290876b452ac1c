//! Names and numbers by which the agent finds again what it made.

/// The external VXLAN device.
pub const VXLAN_DEVICE: &str = "isthmus_vx";
/// The WireGuard device, kernel's or `mesh-tunnel`'s.
pub const TUNNEL_DEVICE: &str = "isthmus_wg";
/// Routing table of the peers' nodes, consulted for tunnel packets only.
pub const TUNNEL_TABLE: u32 = 4242;
/// `rtm_protocol` of every route and rule of ours: cleaning up removes what carries it, and nothing else.
pub const ROUTE_PROTOCOL: u8 = 73;
/// Metric of the `unreachable` routes: what remains when the secure device is gone.
pub const GUARD_METRIC: u32 = 9999;
/// Priority of the rules that match the destination port.
pub const RULE_BY_DESTINATION: u32 = 50;
/// Priority of the rules that match the source port: reverse-path checks swap the ports.
pub const RULE_BY_SOURCE: u32 = 51;
/// WireGuard's port where a peer does not say (Cilium's).
pub const CILIUM_WIREGUARD_PORT: u16 = 51871;
