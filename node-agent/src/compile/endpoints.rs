//! `ENDPOINTS`: the pods of this node. The kernel says where a pod is, the view says who it is; both must agree.

use std::net::IpAddr;

use agent_ebpf_common::Endpoint;

use super::Facts;
use crate::netlink::pods::PodDevice;

/// The entry of a pod's address; `None` while the view does not know it as a pod of this cluster.
pub fn entry(facts: Facts<'_>, address: IpAddr, device: &PodDevice) -> Option<Endpoint> {
    let own = facts.local()?;
    let ip = facts.view.ip_of(&own.name, address)?;
    let how = if device.pod_mac.is_some() { Endpoint::DELIVER_MAC } else { Endpoint::DELIVER_NEIGH };
    let gateway = device.master.as_ref().map_or(device.mac, |m| m.mac);
    Some(Endpoint {
        identity: ip.identity.0,
        ifindex: device.ifindex,
        master: device.master.as_ref().map_or(0, |m| m.ifindex),
        how,
        dmac: device.pod_mac.unwrap_or_default(),
        smac: gateway,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixture::{Mesh, addr};
    use crate::netlink::pods::Master;

    fn device() -> PodDevice {
        PodDevice {
            ifindex: 7,
            name: "veth0".into(),
            mac: [2; 6],
            master: None,
            pod_mac: Some([4; 6]),
            addresses: vec![addr("10.1.1.2")],
        }
    }

    #[test]
    fn a_pod_has_an_entry_once_the_view_names_it() {
        let mut mesh = Mesh::two_clusters();
        assert_eq!(entry(mesh.facts(), addr("10.1.1.2"), &device()), None);
        mesh.ip("b", "10.1.1.2", "172.30.2.11", 5);
        assert_eq!(entry(mesh.facts(), addr("10.1.1.2"), &device()), None, "another cluster's claim names no pod here");
        mesh.ip("a", "10.1.1.2", "172.30.1.11", 0x1_0101);
        let found = entry(mesh.facts(), addr("10.1.1.2"), &device()).unwrap();
        assert_eq!((found.identity, found.ifindex, found.how), (0x1_0101, 7, Endpoint::DELIVER_MAC));
        assert_eq!((found.dmac, found.smac), ([4; 6], [2; 6]));
    }

    #[test]
    fn behind_a_bridge_the_gateway_is_the_bridge() {
        let mut mesh = Mesh::two_clusters();
        mesh.ip("a", "10.1.1.2", "172.30.1.11", 9);
        let bridged = PodDevice { master: Some(Master { ifindex: 3, mac: [8; 6] }), pod_mac: None, ..device() };
        let found = entry(mesh.facts(), addr("10.1.1.2"), &bridged).unwrap();
        assert_eq!((found.master, found.smac, found.how), (3, [8; 6], Endpoint::DELIVER_NEIGH));
    }
}
