//! How many entries the maps hold.

/// Capacities, used when a map is made. A pinned map that is adopted keeps the size it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Single addresses of all clusters.
    pub addresses: u32,
    /// Declared prefixes of all clusters.
    pub prefixes: u32,
    /// Nodes of all other clusters.
    pub nodes: u32,
    /// Pod addresses of this node.
    pub endpoints: u32,
    /// Service addresses, one for each port and protocol.
    pub services: u32,
    /// Backends of all services; 24 bytes each, allocated at once.
    pub backends: u32,
    /// Entries of all Maglev tables together; 4 bytes each, allocated at once.
    pub table_entries: u32,
    /// Flows to service addresses translated per packet; about 130 bytes each, allocated at once. Most flows are translated
    /// at the socket and have no entry. A quarter more is kept for second flows of a pod's port.
    pub flows: u32,
    /// Sockets connected to service addresses; about 100 bytes each, allocated at once.
    pub sockets: u32,
    /// Distinct counters.
    pub counters: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            addresses: 524_288,
            prefixes: 4_096,
            nodes: 16_384,
            endpoints: 4_096,
            services: 131_072,
            backends: 262_144,
            table_entries: 4_194_304,
            flows: 65_536,
            sockets: 65_536,
            counters: 16_384,
        }
    }
}

impl Sizes {
    /// For tests: a few hundred kilobytes in all.
    pub const SMALL: Self = Self {
        addresses: 1_024,
        prefixes: 256,
        nodes: 256,
        endpoints: 256,
        services: 1_024,
        backends: 1_024,
        table_entries: 131_072,
        flows: 1_024,
        sockets: 1_024,
        counters: 1_024,
    };

    /// Capacity of a map by its name in the object; `None` for the ones of fixed size.
    pub(crate) fn of(&self, map: &str) -> Option<u32> {
        use crate::pins::map;
        Some(match map {
            map::IPCACHE => self.addresses,
            map::PREFIXES => self.prefixes,
            map::NODES => self.nodes,
            map::ENDPOINTS => self.endpoints,
            map::SERVICES => self.services,
            map::BACKENDS => self.backends,
            map::MAGLEV => self.table_entries.div_ceil(agent_ebpf_common::service::SLAB_LINE),
            map::FLOWS => self.flows,
            map::CT | map::REVNAT => self.flows.div_ceil(4),
            map::SOCK_REV => self.sockets,
            map::COUNTERS => self.counters,
            _ => return None,
        })
    }
}
