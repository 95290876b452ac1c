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

    /// Every key of a view: what a snapshot touches. Keys of the view before it must be in as well, to be taken away.
    pub fn everything(view: &View) -> Self {
        let mut all = Self { topology: true, ..Self::default() };
        for cluster in view.clusters() {
            all.prefixes.extend(cluster.pod_prefixes.iter().copied());
        }
        for node in view.nodes() {
            all.node(Some(node));
        }
        all.prefixes.extend(view.all_ips().map(|ip| ip.prefix));
        all.services.extend(view.services().map(|(name, _)| name.clone()));
        all
    }
}
