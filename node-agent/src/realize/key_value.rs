//! Reconciler of a plain map: `IPCACHE` with `PREFIXES`, `NODES`, `ENDPOINTS`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use agent_ebpf::maps::Error;
use mesh_runtime::ErrorChain;

use super::Failures;
use crate::platform::KeyValue;

/// What the kernel is believed to hold, and what failed.
pub struct Table<K, V, M> {
    map: M,
    realized: BTreeMap<K, V>,
    pub failures: Failures<K>,
}

impl<K: Ord + Clone, V: PartialEq + Copy, M: KeyValue<K, V>> Table<K, V, M> {
    /// Takes over what the map holds.
    pub fn adopt(map: M) -> Result<Self, Error> {
        let realized = map.entries()?.into_iter().collect();
        Ok(Self { map, realized, failures: Failures::default() })
    }

    /// Makes the map hold `desired` for `key`. Whether something was written.
    pub fn set(&mut self, key: &K, desired: Option<V>) -> bool {
        if self.realized.get(key).copied() == desired {
            self.failures.note(key, None, Instant::now());
            return false;
        }
        let written = match &desired {
            Some(value) => self.map.insert(key, value),
            None => self.map.remove(key),
        };
        let error = written.as_ref().err().map(|e| ErrorChain(e).to_string());
        self.failures.note(key, error, Instant::now());
        if written.is_err() {
            return false;
        }
        match desired {
            Some(value) => self.realized.insert(key.clone(), value),
            None => self.realized.remove(key),
        };
        true
    }

    /// Keys that the kernel holds: after a snapshot they are looked at as well, so that leftovers go.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.realized.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.realized.values()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.realized.get(key)
    }

    pub fn len(&self) -> usize {
        self.realized.len()
    }

    pub fn is_empty(&self) -> bool {
        self.realized.is_empty()
    }

    /// To be called once much has been written: a B-tree that grew in the order of its keys is half empty, one that is made
    /// at once is full.
    pub fn compact(&mut self) {
        self.realized = std::mem::take(&mut self.realized).into_iter().collect();
    }

    /// Reads the whole map and mends what somebody else changed; returns how many entries differed.
    pub fn compare(&mut self) -> Result<usize, Error> {
        // No second table of the hundreds of thousands that are as they should be.
        let mut found = self.map.entries()?;
        let total = found.len();
        found.retain(|(key, value)| self.realized.get(key) != Some(value));
        let right = total - found.len();
        let mut drift = 0;
        let mut mended = 0;
        for (key, _) in found {
            match self.realized.get(&key) {
                Some(value) => {
                    self.map.insert(&key, value)?;
                    mended += 1;
                }
                None => self.map.remove(&key)?,
            }
            drift += 1;
        }
        if right + mended < self.realized.len() {
            drift += self.restore_missing()?;
        }
        Ok(drift)
    }

    /// Writes what the map lacks altogether; returns how many that were.
    fn restore_missing(&mut self) -> Result<usize, Error> {
        let held: BTreeSet<K> = self.map.entries()?.into_iter().map(|(key, _)| key).collect();
        let missing = self.realized.iter().filter(|(key, _)| !held.contains(*key));
        let mut restored = 0;
        for (key, value) in missing {
            self.map.insert(key, value)?;
            restored += 1;
        }
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A map in memory that counts writes and may be full.
    #[derive(Default)]
    struct Fake {
        held: RefCell<BTreeMap<u32, u32>>,
        writes: RefCell<usize>,
        room: Option<usize>,
    }

    impl KeyValue<u32, u32> for &Fake {
        fn entries(&self) -> Result<Vec<(u32, u32)>, Error> {
            Ok(self.held.borrow().iter().map(|(k, v)| (*k, *v)).collect())
        }
        fn insert(&self, key: &u32, value: &u32) -> Result<(), Error> {
            if self.room.is_some_and(|room| self.held.borrow().len() >= room) {
                return Err(Error::Full { map: "FAKE", entries: 0 });
            }
            *self.writes.borrow_mut() += 1;
            self.held.borrow_mut().insert(*key, *value);
            Ok(())
        }
        fn remove(&self, key: &u32) -> Result<(), Error> {
            *self.writes.borrow_mut() += 1;
            self.held.borrow_mut().remove(key);
            Ok(())
        }
    }

    #[test]
    fn only_differences_are_written() {
        let fake = Fake::default();
        fake.held.borrow_mut().insert(1, 10);
        let mut table = Table::adopt(&fake).unwrap();
        assert!(!table.set(&1, Some(10)));
        assert!(table.set(&1, Some(11)) && table.set(&2, Some(20)) && table.set(&1, None));
        assert!(!table.set(&3, None));
        assert_eq!((*fake.writes.borrow(), fake.held.borrow().len()), (3, 1));
    }

    #[test]
    fn a_full_map_fails_that_object_alone() {
        let fake = Fake { room: Some(1), ..Fake::default() };
        let mut table = Table::adopt(&fake).unwrap();
        assert!(table.set(&1, Some(10)));
        assert!(!table.set(&2, Some(20)));
        assert_eq!(table.failures.iter().next().unwrap().1.error, "the map FAKE is full at 0 entries");
        assert!(table.set(&1, None) && table.set(&2, Some(20)) && table.failures.is_empty());
    }

    #[test]
    fn drift_is_counted_and_mended() {
        let fake = Fake::default();
        let mut table = Table::adopt(&fake).unwrap();
        table.set(&1, Some(10));
        table.set(&2, Some(20));
        table.set(&3, Some(30));
        fake.held.borrow_mut().remove(&1);
        fake.held.borrow_mut().insert(3, 31);
        fake.held.borrow_mut().insert(9, 90);
        assert_eq!(table.compare().unwrap(), 3);
        assert_eq!(*fake.held.borrow(), BTreeMap::from([(1, 10), (2, 20), (3, 30)]));
        table.compact();
        fake.held.borrow_mut().insert(2, 21);
        assert_eq!(table.compare().unwrap(), 1, "nothing is missing");
        assert_eq!(table.compare().unwrap(), 0);
    }
}
