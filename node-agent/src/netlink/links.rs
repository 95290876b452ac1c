//! Devices: listing, and the two that the agent makes.

use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan, LinkWireguard};

use super::{During as _, Error, Netlink};

pub type Mac = [u8; 6];

/// A device as far as the agent cares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub is_up: bool,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Index of the other end.
    pub peer: Option<u32>,
    /// The other end's network namespace, where that is another one.
    pub peer_namespace: Option<i32>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    Vxlan {
        port: u16,
        is_external: bool,
    },
    Wireguard,
    Tun,
    #[default]
    Other,
}

impl Netlink {
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        let dump = self.handle.link().get().execute().map_ok(|message| Link::of(&message));
        dump.try_collect().await.during("list the devices")
    }

    /// `None` where there is no device of that name.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match found.try_next().await.during(format_args!("look at device {name}")) {
            Ok(message) => Ok(message.as_ref().map(Link::of)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A device in another network namespace, known by number.
    pub(super) async fn link_elsewhere(&self, namespace: i32, index: u32) -> Result<Option<Link>, Error> {
        let mut request = self.handle.link().get().match_index(index);
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
        let mut found = std::pin::pin!(request.execute());
        let what = format_args!("look at device {index} of namespace {namespace}").to_string();
        match found.try_next().await.during(what) {
            Ok(message) => Ok(message.as_ref().map(Link::of)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An external VXLAN device: the eBPF programs say identity and far end of each packet.
    pub async fn add_vxlan(&self, name: &str, port: u16) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkVxlan>::new(name)
            .append_info_data(InfoVxlan::CollectMetadata(true))
            .append_info_data(InfoVxlan::Learning(false))
            .port(port)
            .build();
        let what = format!("make the VXLAN device {name} on port {port} (is another VXLAN device using the port?)");
        self.handle.link().add(message).execute().await.during(what)
    }

    /// The kernel's WireGuard; `is_unsupported` where it has none.
    pub async fn add_wireguard(&self, name: &str) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkWireguard>::new(name).build();
        self.handle.link().add(message).execute().await.during(format_args!("make the WireGuard device {name}"))
    }

    /// Size first: a device that goes up with the wrong one would let packets through that do not fit.
    pub async fn bring_up(&self, link: &Link, mtu: u32) -> Result<bool, Error> {
        if link.mtu == mtu && link.is_up {
            return Ok(false);
        }
        let size = LinkUnspec::new_with_index(link.index).mtu(mtu).build();
        let what = format_args!("set the MTU of {} to {mtu}", link.name).to_string();
        self.handle.link().set(size).execute().await.during(what)?;
        let up = LinkUnspec::new_with_index(link.index).up().build();
        self.handle.link().set(up).execute().await.during(format_args!("set {} up", link.name))?;
        Ok(true)
    }

    /// Absent is fine.
    pub async fn delete_link(&self, link: &Link) -> Result<(), Error> {
        let deleted = self.handle.link().del(link.index).execute().await;
        match deleted.during(format_args!("delete device {}", link.name)) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            is_up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = Mac::try_from(mac.as_slice()).ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(*index).filter(|i| *i != 0),
                LinkAttribute::Link(index) => link.peer = Some(*index).filter(|i| *i != 0),
                LinkAttribute::LinkNetNsId(namespace) => link.peer_namespace = Some(*namespace),
                LinkAttribute::LinkInfo(facts) => link.kind = Kind::of(facts),
                _ => {}
            }
        }
        link
    }
}

impl Kind {
    fn of(facts: &[LinkInfo]) -> Self {
        let kind = facts.iter().find_map(|fact| match fact {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        });
        match kind {
            Some(InfoKind::Wireguard) => Self::Wireguard,
            Some(InfoKind::Tun) => Self::Tun,
            Some(InfoKind::Vxlan) => {
                let (mut port, mut is_external) = (0, false);
                let settings = facts.iter().filter_map(|fact| match fact {
                    LinkInfo::Data(InfoData::Vxlan(settings)) => Some(settings),
                    _ => None,
                });
                for setting in settings.flatten() {
                    match setting {
                        InfoVxlan::Port(value) => port = *value,
                        InfoVxlan::CollectMetadata(value) => is_external = *value,
                        _ => {}
                    }
                }
                Self::Vxlan { port, is_external }
            }
            _ => Self::Other,
        }
    }
}
