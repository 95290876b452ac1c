//! Pods' devices, found from the kernel alone: host-side devices whose other end is in another network namespace, and the
//! addresses and MAC there. Exact before the pod's first packet, for any CNI that uses such devices.
//!
//! A pod's addresses may come after its device, and nothing tells this namespace: callers scan again shortly after a
//! device came, and whenever the view names a pod here that no device has.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};

use super::links::{Link, Mac};
use super::{During as _, Error, Netlink};

/// A pod's host-side device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodDevice {
    pub ifindex: u32,
    pub name: String,
    pub mac: Mac,
    /// The bridge that the device is a port of: the pod's gateway.
    pub master: Option<Master>,
    /// Unknown where the other end cannot be looked at.
    pub pod_mac: Option<Mac>,
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Master {
    pub ifindex: u32,
    pub mac: Mac,
}

impl Netlink {
    /// All of them but `uplinks`; a device without a usable address is listed, so that its packets are looked at.
    pub async fn pod_devices(&self, uplinks: &BTreeSet<u32>) -> Result<Vec<PodDevice>, Error> {
        let links = self.links().await?;
        let macs: HashMap<u32, Mac> = links.iter().filter_map(|l| Some((l.index, l.mac?))).collect();
        let mut out = Vec::new();
        for link in links.iter().filter(|link| !uplinks.contains(&link.index)) {
            let (Some(peer), Some(namespace), Some(mac)) = (link.peer, link.peer_namespace, link.mac) else { continue };
            // A namespace without a number (negative) is one that this one must not see.
            if namespace < 0 {
                continue;
            }
            let master = link.master.and_then(|ifindex| Some(Master { ifindex, mac: *macs.get(&ifindex)? }));
            out.push(self.pod_device(link, mac, master, (namespace, peer)).await?);
        }
        Ok(out)
    }

    async fn pod_device(
        &self,
        link: &Link,
        mac: Mac,
        master: Option<Master>,
        (namespace, peer): (i32, u32),
    ) -> Result<PodDevice, Error> {
        let far_end = self.link_elsewhere(namespace, peer).await?;
        let addresses = match self.addresses_elsewhere(namespace, peer).await {
            Ok(addresses) => addresses,
            // The pod went while we looked.
            Err(error) if error.is_absent() => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(PodDevice {
            ifindex: link.index,
            name: link.name.clone(),
            mac,
            master,
            pod_mac: far_end.and_then(|l| l.mac),
            addresses,
        })
    }

    async fn addresses_elsewhere(&self, namespace: i32, index: u32) -> Result<Vec<IpAddr>, Error> {
        let mut request = self.handle.address().get();
        request.message_mut().header.family = AddressFamily::Unspec;
        request.message_mut().header.index = index;
        request.message_mut().attributes.push(AddressAttribute::TargetNetNsId(namespace));
        let what = format!("list the addresses of device {index} in namespace {namespace}");
        let messages: Vec<AddressMessage> = request.execute().try_collect().await.during(what)?;
        let of_device = messages.iter().filter(|m| m.header.index == index);
        Ok(of_device.filter(|m| m.header.scope == AddressScope::Universe).filter_map(address).collect())
    }

    /// Addresses of this namespace's own devices, by device.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpAddr)>, Error> {
        let dump = self.handle.address().get().execute();
        let messages: Vec<AddressMessage> = dump.try_collect().await.during("list the addresses")?;
        Ok(messages.iter().filter_map(|m| Some((m.header.index, address(m)?))).collect())
    }
}

/// The local address: for IPv4 on a point-to-point device `IFA_ADDRESS` is the other end's.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}
