//! Reconciler of frontends, backends and Maglev tables.
//!
//! ```text
//!   backends' slots ─▶ table in a fresh range ─▶ the frontend's entry ─▶ (grace) ─▶ old range and slots are free again
//! ```
//! # Invariants
//! - At every moment, whatever a frontend's entry or table names is a live backend with the content it had when it was
//!   written: a program in the middle of a look-up finds either the old state or the new one.
//! - Nothing is given back before the first whole snapshot is realized ([`Services::settle`]): until then adopted entries
//!   may use what nobody else does.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use agent_ebpf::maps::Error as MapError;
use agent_ebpf_common::{Backend, Service, ServiceKey, service};
use mesh_runtime::ErrorChain;

use super::Failures;
use super::numbers::Numbers;
use super::slab::Slab;
use crate::compile::maglev::{self, Entry};
use crate::compile::services::BackendPlan;
use crate::platform::ServiceMaps;

/// How long a program may still use what it has read. A socket hook can be preempted, hence the margin.
pub const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("all {0} numbers of backends are taken")]
    NoNumber(u32),
    #[error("no room for a table of {len} entries ({free} free, in pieces)")]
    NoRoom { len: u32, free: u32 },
}

/// A frontend as the kernel has it.
#[derive(Debug)]
struct Realized {
    service: Service,
    /// Users of `numbers` of the allocator; empty for an adopted entry that was not compiled yet.
    numbers: Vec<u32>,
    /// `None` for an adopted entry that was not compiled yet.
    plan: Option<Vec<BackendPlan>>,
    table_hash: u64,
}

enum Garbage {
    Range { offset: u32, len: u32 },
    Number(u32),
}

/// The three maps and what is known of them.
pub struct Services<M> {
    maps: M,
    numbers: Numbers,
    slab: Slab,
    realized: HashMap<ServiceKey, Realized>,
    garbage: VecDeque<(Instant, Garbage)>,
    next_id: u32,
    settled: bool,
    pub failures: Failures<ServiceKey>,
}

impl<M: ServiceMaps> Services<M> {
    /// Takes over what the maps hold. An entry whose table lies across another's is left out and will be written anew.
    pub fn adopt(maps: M) -> Result<Self, MapError> {
        let numbers = Numbers::adopt(maps.backend_capacity(), &maps.backends()?);
        let mut slab = Slab::new(maps.table_capacity());
        let mut realized = HashMap::new();
        let mut next_id = 1;
        for (key, service) in maps.services()? {
            next_id = next_id.max(service.id.saturating_add(1));
            if service.table_len == 0 || slab.reserve(service.table_offset, service.table_len) {
                realized.insert(key, Realized { service, numbers: Vec::new(), plan: None, table_hash: 0 });
            }
        }
        let (garbage, failures) = (VecDeque::new(), Failures::default());
        Ok(Self { maps, numbers, slab, realized, garbage, next_id, settled: false, failures })
    }

    /// Makes the kernel hold `plan` for a frontend; `None` takes it away. Whether something was written.
    pub fn set(&mut self, key: &ServiceKey, plan: Option<&[BackendPlan]>, now: Instant) -> bool {
        let result = match plan {
            Some(plan) => self.update(key, plan, now),
            None => self.remove(key, now),
        };
        let error = result.as_ref().err().map(|e| ErrorChain(e).to_string());
        self.failures.note(key, error, now);
        result.unwrap_or(false)
    }

    /// Call once every frontend of the first whole snapshot has been set: from now on slots and ranges are given back.
    pub fn settle(&mut self, now: Instant) {
        if !self.settled {
            self.settled = true;
            let leftovers = self.numbers.unused();
            self.garbage.extend(leftovers.into_iter().map(|n| (now + GRACE, Garbage::Number(n))));
        }
    }

    /// Gives back what its grace period is over for.
    pub fn collect(&mut self, now: Instant) {
        while self.settled && self.garbage.front().is_some_and(|(due, _)| *due <= now) {
            match self.garbage.pop_front() {
                Some((_, Garbage::Range { offset, len })) => self.slab.release(offset, len),
                Some((_, Garbage::Number(number))) if self.numbers.free(number) => {
                    if let Err(error) = self.maps.clear_backend(number) {
                        tracing::warn!(number, error = %ErrorChain(&error), "cannot clear the slot of a backend");
                    }
                }
                _ => {}
            }
        }
    }

    /// When [`Self::collect`] has something to do.
    pub fn next_collection(&self) -> Option<Instant> {
        self.garbage.front().filter(|_| self.settled).map(|(due, _)| *due)
    }

    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.realized.keys()
    }

    pub fn len(&self) -> usize {
        self.realized.len()
    }

    pub fn is_empty(&self) -> bool {
        self.realized.is_empty()
    }

    pub fn backends(&self) -> usize {
        self.numbers.len()
    }

    /// Reads all three maps and mends what somebody else changed; returns how many objects differed.
    pub fn compare(&mut self) -> Result<usize, MapError> {
        let mut drift = 0;
        let slots: HashMap<u32, Backend> = self.maps.backends()?.into_iter().collect();
        let entries: HashMap<ServiceKey, Service> = self.maps.services()?.into_iter().collect();
        for (key, realized) in &self.realized {
            let Some(plan) = &realized.plan else { continue };
            for (number, wanted) in realized.numbers.iter().zip(plan) {
                if slots.get(number) != Some(&wanted.backend) {
                    self.maps.set_backend(*number, &wanted.backend)?;
                    drift += 1;
                }
            }
            let Service { table_offset, table_len, .. } = realized.service;
            if table_len > 0 && hash(&self.maps.read_table(table_offset, table_len)?) != realized.table_hash {
                self.maps.write_table(table_offset, &table(&realized.numbers, plan))?;
                drift += 1;
            }
            if entries.get(key) != Some(&realized.service) {
                self.maps.set_service(key, &realized.service)?;
                drift += 1;
            }
        }
        for key in entries.keys().filter(|key| !self.realized.contains_key(*key)) {
            self.maps.remove_service(key)?;
            drift += 1;
        }
        Ok(drift)
    }

    fn update(&mut self, key: &ServiceKey, plan: &[BackendPlan], now: Instant) -> Result<bool, Error> {
        let old = self.realized.get(key);
        if old.is_some_and(|r| r.plan.as_deref() == Some(plan)) {
            return Ok(false);
        }
        let numbers = self.numbers_of(plan, now)?;
        let table = table(&numbers, plan);
        let (id, old_service) = match self.realized.get(key) {
            Some(old) => (old.service.id, Some(old.service)),
            None => (self.next_id, None),
        };
        let mut service = Service {
            id,
            backends: u32::try_from(plan.len()).unwrap_or(u32::MAX),
            backend: if numbers.len() == 1 { numbers[0] } else { Backend::NONE },
            table_len: u32::try_from(table.len()).expect("tables are of the sizes in TABLE_SIZES"),
            ..Service::default()
        };
        let reused = old_service.filter(|old| self.holds(old, &table));
        match reused {
            Some(old) => service.table_offset = old.table_offset,
            None if table.is_empty() => {}
            None => match self.place(&table) {
                Ok(offset) => service.table_offset = offset,
                Err(error) => return Err(self.give_up(&numbers, None, now, error)),
            },
        }
        if old_service != Some(service)
            && let Err(error) = self.maps.set_service(key, &service)
        {
            let fresh = reused.is_none().then_some((service.table_offset, service.table_len));
            return Err(self.give_up(&numbers, fresh, now, error.into()));
        }
        if old_service.is_none() {
            self.next_id = self.next_id.saturating_add(1);
        }
        let realized = Realized { service, numbers, plan: Some(plan.to_vec()), table_hash: hash(&table) };
        if let Some(old) = self.realized.insert(*key, realized) {
            let range = (reused.is_none()).then_some((old.service.table_offset, old.service.table_len));
            self.discard(&old.numbers, range, now);
        }
        Ok(old_service != Some(service))
    }

    fn remove(&mut self, key: &ServiceKey, now: Instant) -> Result<bool, Error> {
        if !self.realized.contains_key(key) {
            return Ok(false);
        }
        self.maps.remove_service(key)?;
        if let Some(old) = self.realized.remove(key) {
            self.discard(&old.numbers, Some((old.service.table_offset, old.service.table_len)), now);
        }
        Ok(true)
    }

    /// One number for each backend, its slot written.
    fn numbers_of(&mut self, plan: &[BackendPlan], now: Instant) -> Result<Vec<u32>, Error> {
        let mut numbers = Vec::with_capacity(plan.len());
        for wanted in plan {
            let Some((number, is_new)) = self.numbers.acquire(&wanted.backend) else {
                let error = Error::NoNumber(self.maps.backend_capacity());
                return Err(self.give_up(&numbers, None, now, error));
            };
            numbers.push(number);
            if is_new && let Err(error) = self.maps.set_backend(number, &wanted.backend) {
                return Err(self.give_up(&numbers, None, now, error.into()));
            }
        }
        Ok(numbers)
    }

    /// Whether the kernel has this table at this entry's place.
    fn holds(&self, service: &Service, table: &[u32]) -> bool {
        let same_len = usize::try_from(service.table_len).is_ok_and(|len| len == table.len());
        same_len && self.maps.read_table(service.table_offset, service.table_len).is_ok_and(|held| held == table)
    }

    fn place(&mut self, table: &[u32]) -> Result<u32, Error> {
        let len = u32::try_from(table.len()).expect("tables are of the sizes in TABLE_SIZES");
        let offset = self.slab.allocate(len).ok_or(Error::NoRoom { len, free: self.slab.free() })?;
        match self.maps.write_table(offset, table) {
            Ok(()) => Ok(offset),
            Err(error) => {
                // No entry names the range yet.
                self.slab.release(offset, len);
                Err(error.into())
            }
        }
    }

    fn give_up(&mut self, numbers: &[u32], range: Option<(u32, u32)>, now: Instant, error: Error) -> Error {
        self.discard(numbers, range, now);
        error
    }

    fn discard(&mut self, numbers: &[u32], range: Option<(u32, u32)>, now: Instant) {
        if let Some((offset, len)) = range.filter(|(_, len)| *len > 0) {
            self.garbage.push_back((now + GRACE, Garbage::Range { offset, len }));
        }
        for number in numbers {
            if self.numbers.release(*number) {
                self.garbage.push_back((now + GRACE, Garbage::Number(*number)));
            }
        }
    }
}

/// The table of a plan; empty where one backend or none needs no table.
fn table(numbers: &[u32], plan: &[BackendPlan]) -> Vec<u32> {
    let count = u32::try_from(plan.len()).unwrap_or(u32::MAX);
    let is_even = plan.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    let len = if is_even { service::table_len(count) } else { service::weighted_table_len(count) };
    if len == 0 {
        return Vec::new();
    }
    let entry = |(number, wanted): (&u32, &BackendPlan)| Entry {
        number: *number,
        hash: maglev::hash(&wanted.backend),
        weight: wanted.weight,
    };
    let entries: Vec<Entry> = numbers.iter().zip(plan).map(entry).collect();
    maglev::table(len, &entries)
}

fn hash(table: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    table.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
