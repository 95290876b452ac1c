//! `CT`, `REVNAT` and `SOCK_REV`, which the programs write: read here, for printing and for ending flows.

use agent_ebpf_common::{FlowKey, FlowTarget, NatTarget, SockOrigin};

use super::table::Table;
use super::{Access, Error};
use crate::Pins;
use crate::pins::map;

/// Flows to service addresses that `from_pod` translates per packet.
pub struct Flows {
    forward: Table<FlowKey, FlowTarget>,
    reverse: Table<FlowKey, NatTarget>,
}

/// Sockets that `connect` sent to a backend, by cookie.
pub struct Sockets(Table<u64, SockOrigin>);

impl Flows {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Ok(Self { forward: Table::open(pins, map::CT, access)?, reverse: Table::open(pins, map::REVNAT, access)? })
    }

    pub fn get(&self, key: &FlowKey) -> Result<Option<FlowTarget>, Error> {
        self.forward.get(key)
    }

    pub fn entries(&self) -> Result<Vec<(FlowKey, FlowTarget)>, Error> {
        self.forward.entries()
    }

    pub fn reverse_entries(&self) -> Result<Vec<(FlowKey, NatTarget)>, Error> {
        self.reverse.entries()
    }

    /// Forgets a flow: its next packet chooses anew. Whether it was known.
    pub fn remove(&self, key: &FlowKey) -> Result<bool, Error> {
        self.forward.remove(key)
    }
}

impl Sockets {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Table::open(pins, map::SOCK_REV, access).map(Self)
    }

    pub fn entries(&self) -> Result<Vec<(u64, SockOrigin)>, Error> {
        self.0.entries()
    }
}
