//! The device through `wireguard-control`: the only module that names it.
//!
//! Its traps: for a userspace device whose socket is missing it would start a program (so the socket is tried first, and
//! [`disarm_spawning`] makes the attempt fail), and touching a peer of `gotatun` ends that peer's session (so only what
//! differs is touched).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;

use ipnet::IpNet;
use wireguard_control as wg;

use super::control::{self, Request};
use super::{Applied, Backend, Error, KEEPALIVE, Peer, PeerStats, Peers, PrivateKey, PublicKey, WireGuard};

/// The variable by which `wireguard-control` chooses the program to start.
const IMPLEMENTATION: &str = "WG_USERSPACE_IMPLEMENTATION";
const NOTHING: &str = "/nonexistent/isthmus-starts-nothing";

/// Makes sure that no library starts a WireGuard program behind our back. Call it first in `main`.
#[expect(unsafe_code, reason = "the environment is written once, before any other thread exists")]
#[expect(clippy::disallowed_methods, reason = "wireguard-control takes this setting from the environment alone")]
pub fn disarm_spawning() {
    // SAFETY: called first in main, while this is the only thread.
    unsafe { std::env::set_var(IMPLEMENTATION, NOTHING) };
}

/// A device by name.
#[derive(Debug, Clone)]
pub struct Device {
    name: String,
    interface: wg::InterfaceName,
    backend: Backend,
}

impl Device {
    pub fn new(name: &str, backend: Backend) -> Result<Self, Error> {
        let interface = name.parse().map_err(|_invalid: wg::InvalidInterfaceName| Error::Name(name.to_owned()))?;
        Ok(Self { name: name.to_owned(), interface, backend })
    }

    fn control_backend(&self) -> wg::Backend {
        match self.backend {
            Backend::Kernel => wg::Backend::Kernel,
            Backend::Userspace => wg::Backend::Userspace,
        }
    }

    fn read(&self) -> Result<wg::Device, Error> {
        wg::Device::get(&self.interface, self.control_backend())
            .map_err(|source| Error::Read { device: self.name.clone(), source })
    }

    fn write(&self, update: wg::DeviceUpdate, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.ensure()?;
        update.apply(&self.interface, self.control_backend()).map_err(|source| Error::Configure {
            device: self.name.clone(),
            what: what(),
            source,
        })
    }
}

impl WireGuard for Device {
    fn backend(&self) -> Backend {
        self.backend
    }

    fn ensure(&self) -> Result<(), Error> {
        match self.backend {
            // A file is left when the process is killed; only a connection shows that somebody answers.
            Backend::Userspace => {
                let path = control::uapi_socket(&self.name);
                UnixStream::connect(&path).map(drop).map_err(|source| Error::NoProcess { path, source })
            }
            Backend::Kernel => self.read().map(drop),
        }
    }

    fn apply(&self, key: &PrivateKey, port: u16, peers: &Peers) -> Result<Applied, Error> {
        self.ensure()?;
        let device = self.read()?;
        let wanted_key = wg::Key(key.expose());
        let is_new = device.private_key.as_ref() != Some(&wanted_key) || device.listen_port != Some(port);
        let mut update = wg::DeviceUpdate::new();
        if is_new {
            update = update.set_private_key(wanted_key).set_listen_port(port);
        }
        let held: Vec<(PublicKey, &wg::PeerInfo)> =
            device.peers.iter().map(|p| (PublicKey(p.config.public_key.0), p)).collect();
        let mut applied = Applied { is_new, ..Applied::default() };
        for (peer, _) in held.iter().filter(|(peer, _)| !peers.contains_key(peer)) {
            update = update.remove_peer_by_key(&wg::Key(peer.0));
            applied.removed += 1;
        }
        for (peer, wanted) in peers {
            let same = held.iter().any(|(key, found)| key == peer && equals(&found.config, wanted));
            if !same {
                update = update.add_peer(configuration(peer, wanted));
                applied.set += 1;
            }
        }
        if applied != Applied::default() {
            self.write(update, || format!("{} peers to set, {} to remove", applied.set, applied.removed))?;
        }
        Ok(applied)
    }

    fn stats(&self) -> Result<Vec<PeerStats>, Error> {
        self.ensure()?;
        let peers = self.read()?.peers.into_iter().map(|peer| PeerStats {
            key: PublicKey(peer.config.public_key.0),
            endpoint: peer.config.endpoint,
            last_handshake: peer.stats.last_handshake_time,
            received_bytes: peer.stats.rx_bytes,
            sent_bytes: peer.stats.tx_bytes,
        });
        Ok(peers.collect())
    }

    fn force_handshake(&self, key: &PublicKey, peer: &Peer) -> Result<(), Error> {
        let remove = wg::DeviceUpdate::new().remove_peer_by_key(&wg::Key(key.0));
        self.write(remove, || format!("remove peer {key}"))?;
        let add = wg::DeviceUpdate::new().add_peer(configuration(key, peer));
        self.write(add, || format!("add peer {key} again"))?;
        if self.backend == Backend::Kernel {
            // The kernel sends a keepalive to a new peer by itself, and with it the handshake.
            return Ok(());
        }
        let failed = |why: String| Error::Handshake { peer: *key, why };
        let answer = control::ask(&self.name, &Request::Handshake(*key));
        answer.map_err(|e: io::Error| failed(e.to_string()))?.map_err(failed)
    }
}

fn configuration(key: &PublicKey, peer: &Peer) -> wg::PeerConfigBuilder {
    let mut builder = wg::PeerConfigBuilder::new(&wg::Key(key.0))
        .set_endpoint(peer.endpoint)
        .replace_allowed_ips()
        .set_persistent_keepalive_interval(KEEPALIVE);
    for net in &peer.allowed_ips {
        builder = builder.add_allowed_ip(net.addr(), net.prefix_len());
    }
    builder
}

fn equals(found: &wg::PeerConfig, wanted: &Peer) -> bool {
    let allowed = |a: &wg::AllowedIp| IpNet::new(a.address, a.cidr).ok();
    let found_ips: Option<_> = found.allowed_ips.iter().map(allowed).collect();
    found.endpoint.map(unmapped) == Some(wanted.endpoint)
        && found.persistent_keepalive_interval == Some(KEEPALIVE)
        && found_ips.as_ref() == Some(&wanted.allowed_ips)
}

/// A dual-stack socket reports IPv4 peers as mapped addresses.
fn unmapped(endpoint: SocketAddr) -> SocketAddr {
    match endpoint.ip() {
        IpAddr::V6(v6) => SocketAddr::new(v6.to_canonical(), endpoint.port()),
        IpAddr::V4(_) => endpoint,
    }
}
