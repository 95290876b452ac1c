//! Pods of this node: their entries and the programs on their devices.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Control;
use crate::attach::Devices;
use crate::compile::endpoints;

impl Control {
    pub(super) fn pods_changed(&mut self) {
        let found = self.wiring.pods.borrow_and_update().clone();
        let Some(found) = found else { return };
        let mut addresses: BTreeSet<IpAddr> = self.pod_addresses.keys().copied().collect();
        self.pods.clone_from(&found);
        self.pod_addresses.clear();
        for (index, device) in self.pods.iter().enumerate() {
            self.pod_addresses.extend(device.addresses.iter().map(|address| (*address, index)));
        }
        addresses.extend(self.pod_addresses.keys().copied());
        if self.is_synced {
            addresses.extend(self.endpoints.keys().copied());
        }
        self.refresh_endpoints(addresses);
        self.hand_devices_on();
        self.stale.status = true;
    }

    /// Brings the entries of these addresses in line with the devices and the view. Before there was a look at both,
    /// nothing is touched: an earlier agent knew them.
    pub(super) fn refresh_endpoints(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.view.local().is_none() || self.wiring.pods.borrow().is_none() {
            return;
        }
        let node_ip = self.wiring.underlay.borrow().uplink.as_ref().map(|u| IpAddr::V4(u.node_ip));
        let own = self.view.local().map(|c| c.name.clone());
        for address in addresses {
            let device = self.pod_addresses.get(&address).map(|index| &self.pods[*index]);
            let entry = device.and_then(|device| endpoints::entry(self.facts(), address, device));
            let ip = own.as_ref().and_then(|own| self.view.ip_of(own, address));
            let is_missed = device.is_none() && ip.is_some_and(|ip| ip.host.is_some() && ip.host == node_ip);
            if is_missed && node_ip != Some(address) {
                self.wiring.missed.notify_one();
            }
            self.endpoints.set(&address, entry);
        }
    }

    /// Lets the pod programs be attached. A miss must not leak, so the declared prefixes come first: those of the first
    /// snapshot, or what an earlier agent wrote.
    pub(super) fn hand_devices_on(&mut self) {
        if !self.is_synced && !self.has_adopted {
            return;
        }
        let devices: Devices = self.pods.iter().map(|device| (device.ifindex, device.name.clone())).collect();
        self.wiring.devices.send_if_modified(|old| {
            let changed = *old != devices;
            *old = devices;
            changed
        });
    }
}
