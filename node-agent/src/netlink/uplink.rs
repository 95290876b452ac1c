//! The device that leads out of the node, and the node's own address on it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use super::links::Link;
use super::routes::MAIN_TABLE;
use super::{During as _, Error, Netlink};

/// Where the node's packets leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub node_ip: Ipv4Addr,
    /// Never a pod's: this device, and whichever carries a default route or the node's address.
    pub not_pods: BTreeSet<u32>,
}

/// What was asked for and cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error(transparent)]
    Netlink(#[from] Error),
    #[error("there is no device {0}")]
    Device(String),
    #[error("no default route names a device: say which device leads to the other nodes with --uplink")]
    DefaultRoute,
    #[error("device {0} has no IPv4 address: say which address other nodes reach with --node-ip")]
    Address(String),
}

impl Netlink {
    /// `name` and `node_ip` win over what the routes say.
    pub async fn uplink(&self, name: Option<&str>, node_ip: Option<Ipv4Addr>) -> Result<Uplink, Missing> {
        let links = self.links().await?;
        let addresses = self.addresses().await?;
        let defaults = self.default_devices().await?;
        let by_name = |name: &str| links.iter().find(|l| l.name == name);
        let by_route = || defaults.first().and_then(|index| links.iter().find(|l| l.index == *index));
        let link: &Link = if let Some(name) = name {
            by_name(name).ok_or_else(|| Missing::Device(name.to_owned()))?
        } else {
            by_route().ok_or(Missing::DefaultRoute)?
        };
        let v4 = addresses.iter().filter_map(|(index, address)| match address {
            IpAddr::V4(address) => Some((*index, *address)),
            IpAddr::V6(_) => None,
        });
        let v4: Vec<(u32, Ipv4Addr)> = v4.collect();
        let on_link = || v4.iter().find(|(index, _)| *index == link.index).map(|(_, address)| *address);
        let node_ip = node_ip.or_else(on_link).ok_or_else(|| Missing::Address(link.name.clone()))?;
        let carriers = v4.iter().filter(|(_, address)| *address == node_ip).map(|(index, _)| *index);
        let not_pods = carriers.chain(defaults.iter().copied()).chain([link.index]).collect();
        Ok(Uplink { index: link.index, name: link.name.clone(), mtu: link.mtu, node_ip, not_pods })
    }

    /// Devices of the default routes, the preferred one first.
    async fn default_devices(&self) -> Result<Vec<u32>, Error> {
        let mut query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        query.header.protocol = RouteProtocol::Unspec;
        query.header.kind = RouteType::Unspec;
        let dump = self.handle.route().get(query).execute();
        let messages: Vec<RouteMessage> = dump.try_collect().await.during("list the routes")?;
        let mut found: Vec<(u32, u32)> = messages.iter().filter_map(default_device).collect();
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, index)| index).collect())
    }
}

fn default_device(message: &RouteMessage) -> Option<(u32, u32)> {
    let is_default = message.header.destination_prefix_length == 0 && message.header.kind == RouteType::Unicast;
    if !is_default || u32::from(message.header.table) != MAIN_TABLE {
        return None;
    }
    let (mut metric, mut index) = (0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Oif(value) => index = Some(*value),
            _ => {}
        }
    }
    Some((metric, index?))
}
