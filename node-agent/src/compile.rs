//! From the view to what the kernel's maps must hold. Pure: no kernel, no clock, no order of arrival.
//!
//! Owns every decision about meaning: which entry a prefix gets, which backends a frontend uses, what is refused and why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_types::ClusterName;
use mesh_types::view::Cluster;

use crate::desired::View;

pub mod claims;
pub mod endpoints;
pub mod ipcache;
pub mod maglev;
pub mod nodes;
pub mod plan;
pub mod services;

/// All that a compilation may look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub view: &'a View,
    /// Nodes to which a packet can only leave through the secure device (or openly, where that was asked for).
    pub guarded: &'a BTreeSet<IpAddr>,
    /// What this node's probes say of other nodes.
    pub paths: &'a BTreeMap<IpAddr, bool>,
    /// Somebody else translates Services of the own cluster that are not global.
    pub leaves_own_services: bool,
}

/// Something of the view that was left out, with the reason for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Refusal {
    /// `service`, `ip`, `cluster`
    pub kind: &'static str,
    pub name: String,
    /// One word for counting.
    pub reason: &'static str,
    pub text: String,
}

impl<'a> Facts<'a> {
    pub fn local(&self) -> Option<&'a Cluster> {
        self.view.local()
    }

    /// A cluster with which packets can be exchanged at all: not the own one, and protected in the same way.
    pub fn peer(&self, name: &ClusterName) -> Option<&'a Cluster> {
        self.view.cluster(name).filter(|c| !c.is_local)
    }

    /// Whether both sides protect packets alike; otherwise the peer's prefixes stay closed.
    pub fn agrees(&self, peer: &Cluster) -> bool {
        self.local().is_some_and(|own| own.encryption == peer.encryption)
    }

    pub fn may_send_to(&self, host: IpAddr) -> bool {
        self.guarded.contains(&host)
    }

    pub fn path_is_up(&self, host: IpAddr) -> bool {
        self.paths.get(&host).copied().unwrap_or(false)
    }
}

/// Peers that protect packets in another way than this cluster.
pub fn disagreements(facts: Facts<'_>) -> Vec<Refusal> {
    let Some(own) = facts.local() else { return Vec::new() };
    let peers = facts.view.clusters().filter(|c| !c.is_local && !facts.agrees(c));
    peers
        .map(|peer| Refusal {
            kind: "cluster",
            name: peer.name.to_string(),
            reason: "encryption_differs",
            text: format!(
                "cluster {} uses encryption {:?}, this one {:?}: packets between them are dropped; use the same in both",
                peer.name, peer.encryption, own.encryption
            ),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod fixture;
