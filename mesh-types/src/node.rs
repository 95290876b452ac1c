//! A node of a cluster, as the other clusters need to know it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{ClusterId, ClusterName};

/// A Kubernetes node name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host that runs pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    pub cluster: ClusterName,
    pub cluster_id: ClusterId,
    pub name: NodeName,
    /// Addresses by which other nodes reach it; the first is the tunnel endpoint.
    pub internal_ips: Vec<IpAddr>,
    /// Prefixes its pods' addresses are taken from.
    pub pod_cidrs: Vec<IpNet>,
    /// WireGuard public key, 32 bytes; `None` until its agent has registered.
    pub wireguard_key: Option<[u8; 32]>,
    /// UDP port of the node's WireGuard device; 0 where unknown (Cilium peers: 51871).
    pub wireguard_port: u16,
    /// UDP port of the node's VXLAN device.
    pub vxlan_port: u16,
}

impl Node {
    /// The address tunnels end at: the first of IPv4, which is what tunnels are made of, whatever else it is reached by.
    pub fn tunnel_endpoint(&self) -> Option<IpAddr> {
        let first_v4 = self.internal_ips.iter().find(|ip| ip.is_ipv4());
        first_v4.or(self.internal_ips.first()).copied()
    }
}
