//! `COUNTERS`, summed over the CPUs.

use agent_ebpf_common::{CounterKey, CounterValue};

use super::table::Table;
use super::{Access, Error};
use crate::pins::map;
use crate::{Pins, sys};

/// Packets and bytes per program, verdict, reason, identity and cluster. They only grow, and survive the agent.
pub struct Counters {
    table: Table<CounterKey, CounterValue>,
    cpus: usize,
}

impl Counters {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        let table = Table::open(pins, map::COUNTERS, access)?;
        let path = pins.map(map::COUNTERS);
        let cpus = aya::util::nr_cpus().map_err(|(_file, source)| Error::Open { path, source })?;
        Ok(Self { table, cpus })
    }

    /// All counters, sorted by key.
    pub fn read(&self) -> Result<Vec<(CounterKey, CounterValue)>, Error> {
        let mut out = Vec::new();
        let mut values = vec![0; self.cpus * size_of::<CounterValue>()];
        for key in self.table.keys()? {
            let found = sys::map_lookup(self.table.fd(), sys::bytes_of(&key), &mut values);
            if found.map_err(self.table.failed("read"))? {
                out.push((key, sum(&values)));
            }
        }
        out.sort_unstable_by_key(|(key, _)| *key);
        Ok(out)
    }

    /// One counter; zero where nothing was counted yet.
    pub fn get(&self, key: &CounterKey) -> Result<CounterValue, Error> {
        let mut values = vec![0; self.cpus * size_of::<CounterValue>()];
        sys::map_lookup(self.table.fd(), sys::bytes_of(key), &mut values).map_err(self.table.failed("read"))?;
        Ok(sum(&values))
    }

    /// Forgets a counter, for instance of an identity that no longer exists. Whether it was there.
    pub fn remove(&self, key: &CounterKey) -> Result<bool, Error> {
        self.table.remove(key)
    }
}

fn sum(per_cpu: &[u8]) -> CounterValue {
    let values = per_cpu.chunks_exact(size_of::<CounterValue>()).map(sys::value_of::<CounterValue>);
    values.fold(CounterValue::default(), |sum, cpu| CounterValue {
        packets: sum.packets.wrapping_add(cpu.packets),
        bytes: sum.bytes.wrapping_add(cpu.bytes),
    })
}
