//! The secure device: WireGuard, the kernel's or `mesh-tunnel`'s.
//!
//! Owns keys and peers of the device. Must never make packets leave in clear: it configures one device, and when that is
//! gone nothing here takes its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use ipnet::IpNet;

pub mod control;
pub mod key;
pub mod userspace;
pub mod wireguard;

pub use key::{PrivateKey, PublicKey};

/// Seconds between packets that keep a path's state alive, and that make a restarted side start the handshake.
pub const KEEPALIVE: u16 = 5;

/// Which implementation carries the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Kernel,
    Userspace,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

/// Peers by key.
pub type Peers = BTreeMap<PublicKey, Peer>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub endpoint: SocketAddr,
    pub allowed_ips: BTreeSet<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    pub last_handshake: Option<SystemTime>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// What an `apply` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The device had another key or port: it is new to us.
    pub is_new: bool,
    pub set: usize,
    pub removed: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the tunnel process does not accept connections at {}: is mesh-tunnel running?", path.display())]
    NoProcess { path: PathBuf, source: io::Error },
    #[error("cannot read the WireGuard device {device}")]
    Read { device: String, source: io::Error },
    #[error("cannot configure the WireGuard device {device} ({what})")]
    Configure { device: String, what: String, source: io::Error },
    #[error("cannot start a handshake with {peer}: {why}")]
    Handshake { peer: PublicKey, why: String },
    #[error("device name {0:?} is not valid")]
    Name(String),
}

/// One WireGuard device. Calls block for a few milliseconds.
pub trait WireGuard: Send + Sync {
    fn backend(&self) -> Backend;
    /// Whether the device takes configuration now. Never starts anything.
    fn ensure(&self) -> Result<(), Error>;
    /// Makes the device have this key, port and exactly these peers, changing only what differs: to touch a peer is to
    /// end its session.
    fn apply(&self, key: &PrivateKey, port: u16, peers: &Peers) -> Result<Applied, Error>;
    fn stats(&self) -> Result<Vec<PeerStats>, Error>;
    /// Ends what session there is with a peer and starts a new handshake at once.
    fn force_handshake(&self, key: &PublicKey, peer: &Peer) -> Result<(), Error>;
}
