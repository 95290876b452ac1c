//! The kernel's maps behind [`crate::platform`]'s faces. Owns no decision and no state.

use std::net::IpAddr;
use std::sync::Arc;

use agent_ebpf::Datapath;
use agent_ebpf::maps::Error;
use agent_ebpf_common::verdict::FIRST_DROP;
use agent_ebpf_common::{Backend, Endpoint, IpEntry, Node, Service, ServiceKey};
use ipnet::IpNet;

use crate::platform::{KeyValue, ServiceMaps};

/// `IPCACHE` and `PREFIXES`.
pub struct IpCacheMap(pub Arc<Datapath>);
/// `NODES`
pub struct NodesMap(pub Arc<Datapath>);
/// `ENDPOINTS`
pub struct EndpointsMap(pub Arc<Datapath>);
/// `SERVICES`, `BACKENDS`, `MAGLEV`
pub struct ServicesMaps(pub Arc<Datapath>);

impl KeyValue<IpNet, IpEntry> for IpCacheMap {
    fn entries(&self) -> Result<Vec<(IpNet, IpEntry)>, Error> {
        self.0.maps.ipcache.entries()
    }
    fn insert(&self, key: &IpNet, value: &IpEntry) -> Result<(), Error> {
        self.0.maps.ipcache.insert(key, value)
    }
    fn remove(&self, key: &IpNet) -> Result<(), Error> {
        self.0.maps.ipcache.remove(key).map(drop)
    }
}

impl KeyValue<IpAddr, Node> for NodesMap {
    fn entries(&self) -> Result<Vec<(IpAddr, Node)>, Error> {
        self.0.maps.nodes.entries()
    }
    fn insert(&self, key: &IpAddr, value: &Node) -> Result<(), Error> {
        self.0.maps.nodes.insert(*key, value)
    }
    fn remove(&self, key: &IpAddr) -> Result<(), Error> {
        self.0.maps.nodes.remove(*key).map(drop)
    }
}

impl KeyValue<IpAddr, Endpoint> for EndpointsMap {
    fn entries(&self) -> Result<Vec<(IpAddr, Endpoint)>, Error> {
        self.0.maps.endpoints.entries()
    }
    fn insert(&self, key: &IpAddr, value: &Endpoint) -> Result<(), Error> {
        self.0.maps.endpoints.insert(*key, value)
    }
    fn remove(&self, key: &IpAddr) -> Result<(), Error> {
        self.0.maps.endpoints.remove(*key).map(drop)
    }
}

impl ServiceMaps for ServicesMaps {
    fn backend_capacity(&self) -> u32 {
        self.0.maps.backends.capacity()
    }
    fn table_capacity(&self) -> u32 {
        self.0.maps.maglev.capacity()
    }
    fn services(&self) -> Result<Vec<(ServiceKey, Service)>, Error> {
        self.0.maps.services.entries()
    }
    fn backends(&self) -> Result<Vec<(u32, Backend)>, Error> {
        self.0.maps.backends.entries()
    }
    fn read_table(&self, offset: u32, len: u32) -> Result<Vec<u32>, Error> {
        self.0.maps.maglev.read(offset, len)
    }
    fn write_table(&self, offset: u32, table: &[u32]) -> Result<(), Error> {
        self.0.maps.maglev.write(offset, table)
    }
    fn set_backend(&self, number: u32, backend: &Backend) -> Result<(), Error> {
        self.0.maps.backends.set(number, backend)
    }
    fn clear_backend(&self, number: u32) -> Result<(), Error> {
        self.0.maps.backends.clear(number)
    }
    fn set_service(&self, key: &ServiceKey, service: &Service) -> Result<(), Error> {
        self.0.maps.services.insert(key, service)
    }
    fn remove_service(&self, key: &ServiceKey) -> Result<(), Error> {
        self.0.maps.services.remove(key).map(drop)
    }
}

/// Packets that the programs dropped, since the maps were made.
pub fn dropped_packets(datapath: &Datapath) -> Result<u64, Error> {
    let counters = datapath.maps.counters.read()?;
    Ok(counters.iter().filter(|(key, _)| key.reason >= FIRST_DROP).map(|(_, value)| value.packets).sum())
}
