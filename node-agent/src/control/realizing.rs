//! From changed keys to writes, in the order that never leaves a hole.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use agent_ebpf_common::ServiceKey;
use ipnet::IpNet;
use mesh_types::ServiceName;

use super::Control;
use crate::compile::{Refusal, ipcache, nodes, services};
use crate::desired::Changes;

impl Control {
    /// Entries that are new or changed first, then who uses them, then what is gone.
    pub(super) fn realize(&mut self, mut changes: Changes) {
        if changes.topology {
            // What a new plan no longer names is closed here, before the plan is handed on below.
            changes.merge(self.reopen());
        }
        let mut gone = Vec::new();
        for prefix in &changes.prefixes {
            match ipcache::entry(self.facts(), prefix) {
                Some(entry) => drop(self.ipcache.set(prefix, Some(entry))),
                None => gone.push(*prefix),
            }
            let refused: Vec<Refusal> =
                self.view.ips(prefix).filter_map(|ip| ipcache::refusal(self.facts(), &ip)).collect();
            if refused.is_empty() {
                self.ip_refusals.remove(prefix);
            } else {
                self.ip_refusals.insert(*prefix, refused);
            }
        }
        for address in &changes.nodes {
            let entry = nodes::entry(self.facts(), *address);
            self.nodes.set(address, entry);
        }
        self.refresh_endpoints(changes.prefixes.iter().filter_map(single_address).collect());
        self.stale.targets |= !changes.services.is_empty();
        self.realize_services(changes.services);
        for prefix in gone {
            self.ipcache.set(&prefix, None);
        }
        if changes.topology {
            self.hand_plan_on();
            self.write_config();
            self.retarget();
        }
    }

    pub(super) fn realize_services(&mut self, mut names: BTreeSet<ServiceName>) {
        while let Some(name) = names.pop_first() {
            names.extend(self.realize_service(&name));
        }
    }

    /// Returns the other services that gained or lost a frontend.
    fn realize_service(&mut self, name: &ServiceName) -> BTreeSet<ServiceName> {
        let now = Instant::now();
        let group = self.view.service(name);
        let mut plan = group.map(|group| services::plan(self.facts(), name, group)).unwrap_or_default();
        let wishes = plan.frontends.iter().map(|f| (f.key, f.claim.clone())).collect();
        let others = self.claims.set(name, wishes);
        let mut owned = BTreeSet::new();
        for frontend in &plan.frontends {
            match self.claims.owner(&frontend.key) {
                // Also what another service, an earlier agent or this service while it was global had written there.
                Some(owner) if owner == name && frontend.is_left => {
                    self.services.set(&frontend.key, None, now);
                }
                Some(owner) if owner == name => {
                    self.services.set(&frontend.key, Some(&frontend.backends), now);
                    owned.insert(frontend.key);
                }
                Some(owner) => plan.refusals.push(taken(name, &frontend.key, owner)),
                None => {}
            }
        }
        let before = self.frontends.remove(name).unwrap_or_default();
        for key in before.difference(&owned).filter(|key| self.claims.owner(key).is_none()) {
            self.services.set(key, None, now);
        }
        if !owned.is_empty() {
            self.frontends.insert(name.clone(), owned);
        }
        if plan.refusals.is_empty() {
            self.refusals.remove(name);
        } else {
            self.refusals.insert(name.clone(), plan.refusals);
        }
        others
    }

    /// Frontends that an earlier agent wrote and the view does not have.
    pub(super) fn remove_leftover_frontends(&mut self) {
        let leftover = |key: &&ServiceKey| self.claims.owner(key).is_none();
        let keys: Vec<ServiceKey> = self.services.keys().filter(leftover).copied().collect();
        for key in keys {
            self.services.set(&key, None, Instant::now());
        }
    }

    /// Tries what failed again, where its time has come.
    pub(super) fn retry(&mut self, now: Instant) {
        for prefix in self.ipcache.failures.due(now) {
            let entry = ipcache::entry(self.facts(), &prefix);
            self.ipcache.set(&prefix, entry);
        }
        for address in self.nodes.failures.due(now) {
            let entry = nodes::entry(self.facts(), address);
            self.nodes.set(&address, entry);
        }
        let endpoints = self.endpoints.failures.due(now);
        self.refresh_endpoints(endpoints.into_iter().collect());
        for key in self.services.failures.due(now) {
            match self.claims.owner(&key).cloned() {
                Some(owner) => self.realize_services(BTreeSet::from([owner])),
                None => drop(self.services.set(&key, None, now)),
            }
        }
    }
}

fn single_address(prefix: &IpNet) -> Option<IpAddr> {
    (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
}

fn taken(name: &ServiceName, key: &ServiceKey, owner: &ServiceName) -> Refusal {
    let (address, port) = (IpAddr::from(key.addr), u16::from_be(key.port_be));
    Refusal {
        kind: "service",
        name: name.to_string(),
        reason: "address_taken",
        text: format!("{address}:{port} belongs to service {owner} here"),
    }
}
