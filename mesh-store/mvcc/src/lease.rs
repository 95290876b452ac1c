//! Leases and the keys attached to them. Time is not known here: expiry arrives as a revoke.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::Error;

/// A lease's number; 0 means none.
pub type LeaseId = i64;

/// The longest time to live that etcd grants, in seconds.
pub const MAX_LEASE_TTL: i64 = 9_000_000_000;
/// A shorter wish is raised to this, as etcd does with its default election timeout.
pub const MIN_LEASE_TTL: i64 = 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    granted: BTreeMap<LeaseId, Lease>,
    /// How many ids were chosen here; part of the state, so that every replica chooses the same ones.
    chosen: u64,
}

#[derive(Clone, Debug, Default)]
struct Lease {
    ttl: i64,
    /// Unordered, so that attaching costs the same whatever the lease holds; whoever shows them puts them in order.
    keys: HashSet<Bytes>,
}

impl Leases {
    pub(crate) fn restore(granted: impl IntoIterator<Item = (LeaseId, i64)>, chosen: u64) -> Self {
        let granted = granted.into_iter().map(|(id, ttl)| (id, Lease { ttl, keys: HashSet::new() })).collect();
        Self { granted, chosen }
    }

    pub(crate) fn chosen(&self) -> u64 {
        self.chosen
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        self.granted.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.granted.contains_key(&id)
    }

    pub(crate) fn ttl(&self, id: LeaseId) -> Option<i64> {
        self.granted.get(&id).map(|lease| lease.ttl)
    }

    /// In byte order.
    pub(crate) fn keys(&self, id: LeaseId) -> Option<Vec<Bytes>> {
        self.granted.get(&id).map(|lease| in_order(lease.keys.iter().cloned()))
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<(LeaseId, i64), Error> {
        if ttl > MAX_LEASE_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        let id = if id == 0 { self.choose() } else { id };
        if self.contains(id) {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(MIN_LEASE_TTL);
        self.granted.insert(id, Lease { ttl, keys: HashSet::new() });
        Ok((id, ttl))
    }

    /// Forgets the lease and hands out its keys in byte order; the caller deletes them.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Result<Vec<Bytes>, Error> {
        self.granted.remove(&id).map(|lease| in_order(lease.keys)).ok_or(Error::LeaseNotFound)
    }

    pub(crate) fn attach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.granted.get_mut(&id) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    pub(crate) fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.granted.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Ids must look unrelated to one another (clients treat them as opaque) and yet be the same on every replica: a
    /// counter spread over 63 bits by the finalizer of SplitMix64, which is a bijection.
    fn choose(&mut self) -> LeaseId {
        loop {
            self.chosen += 1;
            let mut mixed = self.chosen.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = ((mixed ^ (mixed >> 31)) >> 1).cast_signed();
            if id != 0 && !self.contains(id) {
                return id;
            }
        }
    }
}

/// The order in which replicas delete the keys must be the same.
fn in_order(keys: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut keys: Vec<Bytes> = keys.into_iter().collect();
    keys.sort_unstable();
    keys
}
