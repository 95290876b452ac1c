//! Nodes of other clusters: which are open, which are probed, and what the underlay must carry.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mesh_types::Node;

use super::Control;
use crate::compile::plan;
use crate::desired::Changes;
use crate::probe::paths::Interest;
use crate::probe::sample::sample;
use crate::probe::{Target, Targets};
use crate::underlay::device;

impl Control {
    /// Works out anew which nodes may be sent to; returns what hangs on those that changed.
    pub(super) fn reopen(&mut self) -> Changes {
        let planned = plan::plan(self.facts());
        let open: BTreeSet<IpAddr> = {
            let state = self.wiring.underlay.borrow();
            let guarded = if state.is_planned { &state.guarded } else { &self.presumed_open };
            let peers = planned.iter().flat_map(|plan| plan.peers.keys()).map(|address| IpAddr::V4(*address));
            peers.filter(|address| guarded.contains(address)).collect()
        };
        let mut changes = Changes::default();
        for host in self.open.symmetric_difference(&open) {
            self.touch_host(*host, &mut changes);
        }
        self.open = open;
        changes
    }

    fn touch_host(&self, host: IpAddr, changes: &mut Changes) {
        changes.prefixes.extend(self.view.hosted_by(host).copied());
        let is_peer = |n: &&Node| self.view.cluster(&n.cluster).is_some_and(|cluster| !cluster.is_local);
        let nodes = self.view.nodes_at(&host).filter(is_peer);
        for node in nodes.filter(|n| n.tunnel_endpoint() == Some(host)) {
            changes.prefixes.extend(node.pod_cidrs.iter().copied());
        }
        changes.services.extend(self.view.services_behind(host));
    }

    pub(super) fn hand_plan_on(&mut self) {
        let plan = plan::plan(self.facts()).map(Arc::new);
        // Without a local cluster there is nothing to say: what an earlier agent left stays.
        if plan.is_some() {
            self.wiring.plan.send_if_modified(|old| {
                let changed = *old != plan;
                *old = plan;
                changed
            });
        }
    }

    pub(super) fn underlay_changed(&mut self) {
        let tunnel_up = {
            let state = self.wiring.underlay.borrow_and_update();
            state.tunnel.is_some() || !state.is_encrypted
        };
        tracing::debug!(tunnel_up, "underlay changed");
        self.stale.targets = true;
        self.write_config();
        let changes = self.reopen();
        if !changes.is_empty() {
            self.realize(changes);
        }
        self.stale.status = true;
    }

    /// Only the services behind a path that changed are compiled again.
    pub(super) fn paths_changed(&mut self) {
        let reports = self.wiring.paths.borrow_and_update().clone();
        let paths: BTreeMap<IpAddr, bool> = reports.iter().map(|(a, r)| (*a, r.is_up)).collect();
        let known = paths.keys().chain(self.paths.keys());
        let changed: BTreeSet<IpAddr> = known.filter(|a| paths.get(a) != self.paths.get(a)).copied().collect();
        self.paths = paths;
        let services = changed.iter().flat_map(|host| self.view.services_behind(*host)).collect();
        self.realize_services(services);
        self.stale.status = true;
    }

    /// After a restart traffic flows already: until a probe is lost, paths are taken to be up, so that no backend leaves
    /// for the blink of an eye.
    pub(super) fn presume_paths(&mut self) {
        if self.has_adopted {
            let nodes = self.view.peer_nodes().filter_map(Node::tunnel_endpoint);
            self.paths = nodes.map(|address| (address, true)).collect();
        }
    }

    /// Nodes of other clusters that host a backend, and a sample of those clusters that host none.
    pub(super) fn retarget(&mut self) {
        self.stale.targets = false;
        let Some(plan) = self.wiring.plan.borrow().clone() else { return };
        let (own, is_encrypted) = {
            let state = self.wiring.underlay.borrow();
            (state.uplink.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |uplink| uplink.node_ip), state.is_encrypted)
        };
        let is_used = |address: &Ipv4Addr| {
            let host = IpAddr::V4(*address);
            self.view.hosted_by(host).any(|prefix| self.view.services_at(prefix.addr()).next().is_some())
        };
        let used: BTreeSet<Ipv4Addr> = plan.peers.keys().copied().filter(is_used).collect();
        let in_use: BTreeSet<&str> = used.iter().map(|address| plan.peers[address].cluster.as_str()).collect();
        // One without a key has no agent: whether packets would reach it says nothing.
        let others = plan.peers.iter().filter(|(_, peer)| !in_use.contains(peer.cluster.as_str()));
        let others = others.filter(|(_, peer)| peer.key.is_some() || !is_encrypted);
        let sampled = sample(own, others.map(|(address, peer)| (peer.cluster.as_str(), *address)));
        let target = |address: &Ipv4Addr, interest| {
            let peer = &plan.peers[address];
            let (cluster, node) = (peer.cluster.clone(), peer.node.clone());
            (*address, Target { cluster, node, interest, peer: device::peer(*address, peer) })
        };
        let nodes = used.iter().map(|address| target(address, Interest::Used));
        let nodes = nodes.chain(sampled.iter().map(|address| target(address, Interest::Sampled)));
        let targets = Targets { nodes: nodes.collect(), presume_up: self.has_adopted && !self.is_synced };
        self.wiring.targets.send_if_modified(|old| {
            let changed = old.nodes != targets.nodes;
            if changed {
                *old = targets;
            }
            changed
        });
    }
}
