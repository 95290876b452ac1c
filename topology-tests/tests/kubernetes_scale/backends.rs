//! The backends of the generated Services as a node's eBPF programs find them: its pinned map, seen from outside. Nothing of the
//! mesh is asked.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_ebpf::Pins;
use agent_ebpf::common::{Addr, PROTO_TCP, ServiceKey};
use agent_ebpf::maps::{Access, Services};
use anyhow::{Context as _, Result, bail};
use topology_tests::kubernetes::node::Node;

use crate::plan::PORT;

/// Between two looks at the map.
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Backends {
    map: Services,
    /// In the order of the Services.
    keys: Vec<ServiceKey>,
}

impl Backends {
    /// Of the Services that have these addresses in the node's cluster.
    pub(crate) fn open(node: &Node, services: &[Ipv4Addr]) -> Result<Self> {
        let bpffs = node.place()?.seen_from_outside(Path::new("/sys/fs/bpf"));
        let map = Services::open(&Pins::under(&bpffs), Access::ReadOnly);
        let key = |ip: &Ipv4Addr| ServiceKey {
            addr: Addr::from(IpAddr::from(*ip)),
            port_be: PORT.to_be(),
            proto: PROTO_TCP,
            pad: 0,
        };
        let map = map.with_context(|| format!("open the map of services of node {}", node.name()))?;
        Ok(Self { map, keys: services.iter().map(key).collect() })
    }

    pub(crate) fn of(&self, service: usize) -> Result<usize> {
        let key = self.keys.get(service).context("there is no such Service")?;
        Ok(self.map.get(key)?.map_or(0, |service| service.backends as usize))
    }

    pub(crate) fn all(&self) -> Result<usize> {
        (0..self.keys.len()).map(|service| self.of(service)).sum()
    }

    /// Waits until there are so many, and gives when that was.
    pub(crate) fn reach(&self, wanted: usize, within: Duration) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            let found = self.all()?;
            if found == wanted {
                return Ok(Instant::now());
            }
            if begun.elapsed() > within {
                bail!("{found} backends are in the map after {within:?}, and not {wanted}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// The fewest that were seen until `is_over`.
    pub(crate) fn fewest(&self, is_over: &AtomicBool) -> Result<usize> {
        let mut fewest = self.all()?;
        while !is_over.load(Ordering::Relaxed) {
            fewest = fewest.min(self.all()?);
            std::thread::sleep(POLL);
        }
        Ok(fewest)
    }
}
