//! The kernel's maps as the reconcilers see them, so that their order of writes can be tested without a kernel.

use agent_ebpf::maps::Error;
use agent_ebpf_common::{Backend, Service, ServiceKey};

/// A map of keys to values.
pub trait KeyValue<K, V> {
    fn entries(&self) -> Result<Vec<(K, V)>, Error>;
    fn insert(&self, key: &K, value: &V) -> Result<(), Error>;
    /// Absent is fine.
    fn remove(&self, key: &K) -> Result<(), Error>;
}

/// `SERVICES`, `BACKENDS` and the slab of tables: three maps that point at each other.
pub trait ServiceMaps {
    /// Numbers of backends are below this.
    fn backend_capacity(&self) -> u32;
    /// Entries of the slab.
    fn table_capacity(&self) -> u32;
    fn services(&self) -> Result<Vec<(ServiceKey, Service)>, Error>;
    fn backends(&self) -> Result<Vec<(u32, Backend)>, Error>;
    fn read_table(&self, offset: u32, len: u32) -> Result<Vec<u32>, Error>;
    fn write_table(&self, offset: u32, table: &[u32]) -> Result<(), Error>;
    fn set_backend(&self, number: u32, backend: &Backend) -> Result<(), Error>;
    fn clear_backend(&self, number: u32) -> Result<(), Error>;
    fn set_service(&self, key: &ServiceKey, service: &Service) -> Result<(), Error>;
    fn remove_service(&self, key: &ServiceKey) -> Result<(), Error>;
}
