//! Leases and the keys attached to them. Time is not known here: expiry arrives as a revoke.

use std::collections::{BTreeMap, BTreeSet};

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
    keys: BTreeSet<Bytes>,
}

impl Leases {
    pub(crate) fn restore(granted: impl IntoIterator<Item = (LeaseId, i64)>, chosen: u64) -> Self {
        let granted = granted.into_iter().map(|(id, ttl)| (id, Lease { ttl, keys: BTreeSet::new() })).collect();
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

    pub(crate) fn keys(&self, id: LeaseId) -> Option<impl Iterator<Item = &Bytes> + '_> {
        self.granted.get(&id).map(|lease| lease.keys.iter())
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
        self.granted.insert(id, Lease { ttl, keys: BTreeSet::new() });
        Ok((id, ttl))
    }

    /// Forgets the lease and hands out its keys in byte order; the caller deletes them.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, Error> {
        self.granted.remove(&id).map(|lease| lease.keys).ok_or(Error::LeaseNotFound)
    }

    pub(crate) fn attach(&mut self, id: LeaseId, key: &Bytes) {
        if let Some(lease) = self.granted.get_mut(&id) {
            lease.keys.insert(key.clone());
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
