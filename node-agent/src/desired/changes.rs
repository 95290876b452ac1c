//! Which keys a change touches.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::{Node, ServiceName};

use super::View;

/// Keys to compile again. A nudge, not the change itself: whoever gets it reads the tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub prefixes: BTreeSet<IpNet>,
    /// Underlay addresses of nodes.
    pub nodes: BTreeSet<IpAddr>,
    pub services: BTreeSet<ServiceName>,
    /// Clusters or nodes came, went or changed: the plan of tunnels and routes.
    pub topology: bool,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn merge(&mut self, other: Self) {
        self.prefixes.extend(other.prefixes);
        self.nodes.extend(other.nodes);
        self.services.extend(other.services);
        self.topology |= other.topology;
    }

    pub(super) fn node(&mut self, node: Option<&Node>) {
        let Some(node) = node else { return };
        self.topology = true;
        self.nodes.extend(node.internal_ips.iter().copied());
        self.prefixes.extend(node.pod_cidrs.iter().copied());
    }

    /// Every key of a snapshot, of the view before it and of what the kernel holds: what is in the last two only is to be
    /// taken away. Hundreds of thousands, so each set is made at once.
    pub fn everything<'a>(
        views: [&'a View; 2],
        held: impl Iterator<Item = &'a IpNet>,
        held_nodes: impl Iterator<Item = &'a IpAddr>,
    ) -> Self {
        let clusters = views.iter().flat_map(|view| view.clusters());
        let nodes = || views.iter().flat_map(|view| view.nodes());
        let declared = clusters.flat_map(|cluster| &cluster.pod_prefixes).copied();
        let of_nodes = nodes().flat_map(|node| &node.pod_cidrs).copied();
        let claimed = views.iter().flat_map(|view| view.all_ips()).map(|ip| ip.prefix);
        let addresses = nodes().flat_map(|node| &node.internal_ips);
        let services = views.iter().flat_map(|view| view.services()).map(|(name, _)| name.clone());
        Self {
            prefixes: declared.chain(of_nodes).chain(claimed).chain(held.copied()).collect(),
            nodes: addresses.chain(held_nodes).copied().collect(),
            services: services.collect(),
            topology: true,
        }
    }
}
