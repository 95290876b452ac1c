//! The pinned maps, typed. Each handle is a shared reference away from any thread; one writer a map is the agent's rule.

use std::path::PathBuf;
use std::{fmt, io};

use crate::Pins;

mod counters;
mod flows;
mod ipcache;
mod node;
mod prefix;
mod services;
mod table;
mod vips;

pub use counters::Counters;
pub use flows::{Flows, Sockets};
pub use ipcache::IpCache;
pub use node::{ConfigMap, Endpoints, Nodes};
pub use services::{Backends, Maglev, Services};

/// Why a map could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the map {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "the map {map} has keys of {found_key} and values of {found_value} bytes, not {key} and {value}: made by another version"
    )]
    Layout { map: &'static str, key: usize, value: usize, found_key: u32, found_value: u32 },
    #[error("{call} in the map {map}")]
    Call { map: &'static str, call: &'static str, source: io::Error },
    #[error("the map {map} is full at {entries} entries")]
    Full { map: &'static str, entries: u32 },
    #[error("the map {map} has {entries} entries; {wanted} is beyond")]
    Range { map: &'static str, entries: u32, wanted: u64 },
    #[error("the map {map} was opened read-only")]
    ReadOnly { map: &'static str },
}

/// What one may do with an opened map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For tools. Shared memory of `MAGLEV` is not mapped, its entries are read one line at a time.
    ReadOnly,
    ReadWrite,
}

/// All maps of a node.
pub struct Maps {
    pub ipcache: IpCache,
    pub nodes: Nodes,
    pub endpoints: Endpoints,
    pub services: Services,
    pub backends: Backends,
    pub maglev: Maglev,
    pub flows: Flows,
    pub sockets: Sockets,
    pub counters: Counters,
    pub config: ConfigMap,
}

impl Maps {
    /// Opens the pinned maps, for instance to print them; fails where no agent has ever run.
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Ok(Self {
            ipcache: IpCache::open(pins, access)?,
            nodes: Nodes::open(pins, access)?,
            endpoints: Endpoints::open(pins, access)?,
            services: Services::open(pins, access)?,
            backends: Backends::open(pins, access)?,
            maglev: Maglev::open(pins, access)?,
            flows: Flows::open(pins, access)?,
            sockets: Sockets::open(pins, access)?,
            counters: Counters::open(pins, access)?,
            config: ConfigMap::open(pins, access)?,
        })
    }
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}
