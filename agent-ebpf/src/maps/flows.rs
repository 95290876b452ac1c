//! `FLOWS`, `CT`, `REVNAT` and `SOCK_REV`, which the programs write: read here, for printing and for ending flows.

use agent_ebpf_common::{FlowKey, FlowTarget, NatTarget, PortFlow, PortKey, SockOrigin};

use super::table::Table;
use super::{Access, Error};
use crate::Pins;
use crate::pins::map;

/// Flows to service addresses that `from_pod` translates per packet.
pub struct Flows {
    ports: Table<PortKey, PortFlow>,
    forward: Table<FlowKey, FlowTarget>,
    reverse: Table<FlowKey, NatTarget>,
}

/// Sockets that `connect` sent to a backend, by cookie.
pub struct Sockets(Table<u64, SockOrigin>);

/// A port's flow in the form of those that have a full key.
fn forward(key: &PortKey, flow: &PortFlow) -> (FlowKey, FlowTarget) {
    let full = FlowKey {
        src: key.addr,
        dst: flow.service,
        sport_be: key.port_be,
        dport_be: flow.service_port_be,
        proto: key.proto.into(),
    };
    let flags = if flow.flags & PortFlow::FLAG_REMOTE == 0 { 0 } else { FlowTarget::FLAG_REMOTE };
    let (addr, port_be) = (flow.backend, flow.backend_port_be);
    (full, FlowTarget { addr, port_be, flags, backend: flow.number, ifindex: flow.ifindex })
}

fn port(key: &FlowKey) -> PortKey {
    PortKey { addr: key.src, port_be: key.sport_be, proto: u8::try_from(key.proto).unwrap_or(0), pad: 0 }
}

impl Flows {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Ok(Self {
            ports: Table::open(pins, map::FLOWS, access)?,
            forward: Table::open(pins, map::CT, access)?,
            reverse: Table::open(pins, map::REVNAT, access)?,
        })
    }

    pub fn get(&self, key: &FlowKey) -> Result<Option<FlowTarget>, Error> {
        let of_port = self.ports.get(&port(key))?.map(|flow| forward(&port(key), &flow));
        match of_port.filter(|(full, _)| full == key) {
            Some((_, target)) => Ok(Some(target)),
            None => self.forward.get(key),
        }
    }

    /// All flows, from the pod's side: source, service address, and where it goes.
    pub fn entries(&self) -> Result<Vec<(FlowKey, FlowTarget)>, Error> {
        let mut all: Vec<_> = self.ports.entries()?.iter().map(|(key, flow)| forward(key, flow)).collect();
        all.extend(self.forward.entries()?);
        Ok(all)
    }

    /// Forgets a flow: its next packet chooses anew. Whether it was known.
    pub fn remove(&self, key: &FlowKey) -> Result<bool, Error> {
        let of_port = self.ports.get(&port(key))?.map(|flow| forward(&port(key), &flow).0);
        if of_port == Some(*key) { self.ports.remove(&port(key)) } else { self.forward.remove(key) }
    }

    /// Flows that share their port with another one.
    pub fn overflowed(&self) -> Result<Vec<(FlowKey, NatTarget)>, Error> {
        self.reverse.entries()
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
