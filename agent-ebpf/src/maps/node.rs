//! `ENDPOINTS`, `NODES` and `CONFIG`.

use std::net::IpAddr;

use agent_ebpf_common::{Addr, AddrKey, Config, Endpoint, Node};

use super::table::Table;
use super::{Access, Error};
use crate::Pins;
use crate::pins::map;

/// Pods of this node by address.
pub struct Endpoints(Table<AddrKey, Endpoint>);

/// Nodes of the other clusters by underlay address. Never this cluster's own.
pub struct Nodes(Table<Addr, Node>);

/// The one configuration entry.
pub struct ConfigMap(Table<u32, Config>);

impl Endpoints {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Table::open(pins, map::ENDPOINTS, access).map(Self)
    }

    pub fn get(&self, addr: IpAddr) -> Result<Option<Endpoint>, Error> {
        self.0.get(&AddrKey::shared(addr.into()))
    }

    pub fn insert(&self, addr: IpAddr, endpoint: &Endpoint) -> Result<(), Error> {
        self.0.insert(&AddrKey::shared(addr.into()), endpoint)
    }

    pub fn remove(&self, addr: IpAddr) -> Result<bool, Error> {
        self.0.remove(&AddrKey::shared(addr.into()))
    }

    pub fn entries(&self) -> Result<Vec<(IpAddr, Endpoint)>, Error> {
        Ok(self.0.entries()?.into_iter().map(|(key, e)| (key.addr.into(), e)).collect())
    }
}

impl Nodes {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Table::open(pins, map::NODES, access).map(Self)
    }

    pub fn get(&self, addr: IpAddr) -> Result<Option<Node>, Error> {
        self.0.get(&addr.into())
    }

    pub fn insert(&self, addr: IpAddr, node: &Node) -> Result<(), Error> {
        self.0.insert(&addr.into(), node)
    }

    pub fn remove(&self, addr: IpAddr) -> Result<bool, Error> {
        self.0.remove(&addr.into())
    }

    pub fn entries(&self) -> Result<Vec<(IpAddr, Node)>, Error> {
        Ok(self.0.entries()?.into_iter().map(|(addr, node)| (addr.into(), node)).collect())
    }
}

impl ConfigMap {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Table::open(pins, map::CONFIG, access).map(Self)
    }

    /// Unset (`is_set()` false) before the first write.
    pub fn get(&self) -> Result<Config, Error> {
        Ok(self.0.get(&0)?.unwrap_or_default())
    }

    /// Takes effect with the next packet. `magic` is set here.
    pub fn set(&self, config: &Config) -> Result<(), Error> {
        self.0.insert(&0, &Config { magic: Config::MAGIC, ..*config })
    }
}
