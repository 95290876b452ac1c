//! Bringing the secure device up and configuring it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Choice, Error, State, Underlay};
use crate::compile::plan::{self, Plan};
use crate::names::TUNNEL_DEVICE;
use crate::netlink::links::Kind;
use crate::tunnel::wireguard::Device;
use crate::tunnel::{Backend, Peer, Peers, PublicKey, WireGuard as _};

/// The WireGuard side of a node; `None` until its agent has registered a key.
pub fn peer(address: Ipv4Addr, peer: &plan::Peer) -> Option<(PublicKey, Peer)> {
    let allowed_ips = BTreeSet::from([IpNet::from(IpAddr::V4(address))]);
    Some((PublicKey(peer.key?), Peer { endpoint: peer.endpoint, allowed_ips }))
}

fn peers(plan: &Plan) -> Peers {
    plan.peers.iter().filter_map(|(address, node)| peer(*address, node)).collect()
}

impl Underlay {
    /// The index of the secure device, up and with exactly the plan's peers.
    pub(super) async fn secure_device(
        &mut self,
        plan: &Plan,
        mtu: u32,
        is_full: bool,
        state: &mut State,
    ) -> Result<u32, Error> {
        let backend = match state.backend {
            Some(backend) => backend,
            None => self.choose().await?,
        };
        state.backend = Some(backend);
        let mut found = self.netlink.link(TUNNEL_DEVICE).await?;
        if found.is_none() && backend == Backend::Kernel {
            self.netlink.add_wireguard(TUNNEL_DEVICE).await?;
            found = self.netlink.link(TUNNEL_DEVICE).await?;
        }
        let Some(link) = found else {
            self.configured = None;
            return Err(Error::NoTunnel(TUNNEL_DEVICE));
        };
        let wanted = peers(plan);
        let is_same = self.configured.as_ref().is_some_and(|(index, held)| *index == link.index && *held == wanted);
        if !is_same || is_full {
            self.configured = None;
            self.configure(backend, wanted.clone()).await?;
            self.configured = Some((link.index, wanted));
        }
        self.netlink.bring_up(&link, mtu).await?;
        if !self.attached.contains(&link.index) {
            // The pin of a device that had the program before and is gone is dead weight.
            self.datapath.prune_links()?;
            self.datapath.attach_tunnel(link.index)?;
            self.attached.insert(link.index);
        }
        Ok(link.index)
    }

    async fn choose(&self) -> Result<Backend, Error> {
        let held = self.netlink.link(TUNNEL_DEVICE).await?;
        let backend = match (self.options.wireguard, held.map(|link| link.kind)) {
            (Choice::Userspace, _) | (Choice::Auto, Some(Kind::Tun)) => Backend::Userspace,
            (Choice::Kernel, _) | (Choice::Auto, Some(Kind::Wireguard)) => Backend::Kernel,
            (Choice::Auto, Some(_)) => return Err(Error::ForeignDevice { name: TUNNEL_DEVICE.to_owned() }),
            (Choice::Auto, None) => match self.netlink.add_wireguard(TUNNEL_DEVICE).await {
                Ok(()) => Backend::Kernel,
                Err(error) if error.is_unsupported() => Backend::Userspace,
                Err(error) => return Err(error.into()),
            },
        };
        tracing::info!(%backend, wanted = ?self.options.wireguard, "WireGuard");
        Ok(backend)
    }

    /// Blocks in the tunnel's library: on a thread of its own.
    async fn configure(&self, backend: Backend, peers: Peers) -> Result<(), Error> {
        let device = Device::new(TUNNEL_DEVICE, backend)?;
        let (key, port) = (self.options.key.clone(), self.options.wireguard_port);
        let applied = tokio::task::spawn_blocking(move || device.apply(&key, port, &peers));
        let applied = applied.await.map_err(Error::Panicked)??;
        if applied.is_new || applied.set + applied.removed > 0 {
            tracing::info!(set = applied.set, removed = applied.removed, is_new = applied.is_new, "WireGuard peers");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixture::Mesh;

    #[test]
    fn only_nodes_that_registered_a_key_are_peers() {
        let mesh = Mesh::two_clusters();
        let mut plan = plan::plan(mesh.facts()).unwrap();
        assert_eq!(peers(&plan).len(), 2);
        let first = plan.peers.values_mut().next().unwrap();
        first.key = None;
        let peers = peers(&plan);
        assert_eq!(peers.len(), 1);
        let (_, peer) = peers.first_key_value().unwrap();
        assert_eq!(peer.allowed_ips, BTreeSet::from(["172.30.2.12/32".parse().unwrap()]));
    }
}
