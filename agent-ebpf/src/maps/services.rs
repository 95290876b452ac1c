//! `SERVICES` with its filter `VIPS`, `BACKENDS` and `MAGLEV`.
//!
//! Order of a change, so that no packet sees a hole: backends, then the table in a fresh range, then the service's entry;
//! afterwards, a grace period later, the old range and the old backends' numbers may be used again.

use std::sync::atomic::Ordering;

use agent_ebpf_common::service::SLAB_LINE;
use agent_ebpf_common::{Backend, Service, ServiceKey};

use super::table::Table;
use super::vips::Vips;
use super::{Access, Error};
use crate::pins::map;
use crate::{Pins, sys};

/// Service addresses.
pub struct Services {
    table: Table<ServiceKey, Service>,
    /// `None` when read-only.
    vips: Option<Vips>,
}

/// Backends by number. An array: numbers are 1 to `capacity() - 1`.
pub struct Backends(Table<u32, Backend>);

/// The slab of all Maglev tables, in shared memory: no system call per table.
pub struct Maglev {
    lines: Table<u32, [u32; SLAB_LINE as usize]>,
    /// `None` when read-only.
    shared: Option<sys::SharedWords>,
}

impl Services {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        let table: Table<ServiceKey, Service> = Table::open(pins, map::SERVICES, access)?;
        let vips = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => Some(Vips::open(pins, table.entries()?.iter().map(|(key, _)| key))?),
        };
        Ok(Self { table, vips })
    }

    pub fn get(&self, key: &ServiceKey) -> Result<Option<Service>, Error> {
        self.table.get(key)
    }

    pub fn insert(&self, key: &ServiceKey, service: &Service) -> Result<(), Error> {
        let vips = self.vips()?;
        vips.add(&key.addr);
        let inserted = self.table.insert_new(key, service);
        if !matches!(inserted, Ok(true)) {
            vips.remove(&key.addr);
        }
        if inserted? { Ok(()) } else { self.table.insert(key, service) }
    }

    /// One after the other: each must be told apart from a change, and 100,000 take a tenth of a second.
    pub fn insert_batch(&self, entries: &[(ServiceKey, Service)]) -> Result<(), Error> {
        entries.iter().try_for_each(|(key, service)| self.insert(key, service))
    }

    /// Whether there was an entry.
    pub fn remove(&self, key: &ServiceKey) -> Result<bool, Error> {
        let vips = self.vips()?;
        let was_there = self.table.remove(key)?;
        if was_there {
            vips.remove(&key.addr);
        }
        Ok(was_there)
    }

    /// Absent keys are fine.
    pub fn remove_batch(&self, keys: &[ServiceKey]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.remove(key).map(drop))
    }

    pub fn entries(&self) -> Result<Vec<(ServiceKey, Service)>, Error> {
        self.table.entries()
    }

    fn vips(&self) -> Result<&Vips, Error> {
        self.vips.as_ref().ok_or(Error::ReadOnly { map: map::SERVICES })
    }
}

impl Backends {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Table::open(pins, map::BACKENDS, access).map(Self)
    }

    /// Numbers are below this.
    pub fn capacity(&self) -> u32 {
        self.0.entries
    }

    /// `None` for a number that is not in use.
    pub fn get(&self, number: u32) -> Result<Option<Backend>, Error> {
        Ok(self.0.get(&number)?.filter(Backend::is_live))
    }

    /// Marks it live. A number in use must not get another content: see [`Backend`].
    pub fn set(&self, number: u32, backend: &Backend) -> Result<(), Error> {
        self.check(number)?;
        self.0.insert(&number, &live(backend))
    }

    pub fn set_batch(&self, entries: &[(u32, Backend)]) -> Result<(), Error> {
        entries.iter().try_for_each(|(number, _)| self.check(*number))?;
        self.0.insert_batch(entries.iter().map(|(number, backend)| (*number, live(backend))))
    }

    /// Takes the number out of use. UDP flows that had it choose anew, TCP flows keep their address.
    pub fn clear(&self, number: u32) -> Result<(), Error> {
        self.check(number)?;
        self.0.insert(&number, &Backend::default())
    }

    /// Those in use.
    pub fn entries(&self) -> Result<Vec<(u32, Backend)>, Error> {
        let mut all = self.0.entries()?;
        all.retain(|(_, backend)| backend.is_live());
        Ok(all)
    }

    fn check(&self, number: u32) -> Result<(), Error> {
        if number != Backend::NONE && number < self.0.entries {
            return Ok(());
        }
        Err(Error::Range { map: map::BACKENDS, entries: self.0.entries, wanted: number.into() })
    }
}

fn live(backend: &Backend) -> Backend {
    Backend { flags: backend.flags | Backend::FLAG_LIVE, ..*backend }
}

impl Maglev {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        let lines: Table<u32, [u32; SLAB_LINE as usize]> = Table::open(pins, map::MAGLEV, access)?;
        let bytes = lines.entries as usize * size_of::<[u32; SLAB_LINE as usize]>();
        let shared = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => {
                Some(sys::SharedWords::map(lines.fd(), bytes).map_err(lines.failed("map into memory"))?)
            }
        };
        Ok(Self { lines, shared })
    }

    /// Entries of the slab.
    pub fn capacity(&self) -> u32 {
        self.lines.entries * SLAB_LINE
    }

    /// Writes a table of backend numbers from `offset`.
    pub fn write(&self, offset: u32, table: &[u32]) -> Result<(), Error> {
        let shared = self.shared.as_ref().ok_or(Error::ReadOnly { map: map::MAGLEV })?;
        let range = self.range(offset, table.len())?;
        for (slot, number) in shared.words()[range].iter().zip(table) {
            slot.store(*number, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads `len` entries from `offset`.
    pub fn read(&self, offset: u32, len: u32) -> Result<Vec<u32>, Error> {
        let range = self.range(offset, len as usize)?;
        if let Some(shared) = &self.shared {
            return Ok(shared.words()[range].iter().map(|slot| slot.load(Ordering::Relaxed)).collect());
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        let (first, last) = (offset / SLAB_LINE, (offset + len - 1) / SLAB_LINE);
        let mut words = Vec::new();
        for line in first..=last {
            words.extend(self.lines.get(&line)?.unwrap_or_default());
        }
        let skip = (offset % SLAB_LINE) as usize;
        Ok(words[skip..skip + len as usize].to_vec())
    }

    fn range(&self, offset: u32, len: usize) -> Result<std::ops::Range<usize>, Error> {
        let (start, entries) = (offset as usize, self.capacity());
        match start.checked_add(len).filter(|&end| end <= entries as usize) {
            Some(end) => Ok(start..end),
            None => Err(Error::Range { map: map::MAGLEV, entries, wanted: start as u64 + len as u64 }),
        }
    }
}
