//! Takes the agent off a node: everything it made, and nothing else. `mesh-tunnel`'s device goes with that process.

use std::path::Path;

use agent_ebpf::Pins;
use mesh_runtime::{Shutdown, TaskSet};

use crate::names::{TUNNEL_DEVICE, VXLAN_DEVICE};
use crate::netlink::links::Kind;
use crate::netlink::{self, Netlink};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error(transparent)]
    Pins(#[from] agent_ebpf::pins::Error),
}

/// Programs first, so that no packet meets half of the rest; guards last. Repeating it changes nothing.
pub async fn run(bpffs: &Path) -> Result<(), Error> {
    Pins::under(bpffs).remove_all()?;
    let tasks = TaskSet::new(Shutdown::new());
    let netlink = Netlink::open(&tasks)?;
    if let Some(link) = netlink.link(VXLAN_DEVICE).await? {
        netlink.delete_link(&link).await?;
    }
    if let Some(link) = netlink.link(TUNNEL_DEVICE).await?.filter(|link| link.kind == Kind::Wireguard) {
        netlink.delete_link(&link).await?;
    }
    for route in netlink.own_routes().await? {
        netlink.delete_route(&route).await?;
    }
    for rule in netlink.own_rules().await? {
        netlink.delete_rule(&rule).await?;
    }
    Ok(())
}
