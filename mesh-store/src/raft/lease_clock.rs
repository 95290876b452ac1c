//! When each lease ends. The state knows leases but no time; this knows time and decides nothing else.
//!
//! Deadlines live in memory only: after a restart every lease gets its full time again, as after a change of leader.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use mesh_store_mvcc::LeaseId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    leases: Mutex<Deadlines>,
    changed: Notify,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease has its full time again: seconds.
    Renewed(i64),
    /// Its time is over, but it is not revoked yet.
    Ended,
    Unknown,
}

#[derive(Debug, Default)]
struct Deadlines {
    leases: HashMap<LeaseId, (Instant, Duration)>,
    order: BTreeSet<(Instant, LeaseId)>,
}

impl Deadlines {
    fn set(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        let deadline = now.checked_add(ttl).unwrap_or_else(|| now + Duration::from_secs(u64::from(u32::MAX)));
        if let Some((old, _)) = self.leases.insert(id, (deadline, ttl)) {
            self.order.remove(&(old, id));
        }
        self.order.insert((deadline, id));
    }
}

impl LeaseClock {
    pub(crate) fn start(&self, id: LeaseId, ttl: i64) {
        self.leases.lock().set(id, seconds(ttl), Instant::now());
        self.changed.notify_one();
    }

    pub(crate) fn stop(&self, id: LeaseId) {
        let mut leases = self.leases.lock();
        if let Some((deadline, _)) = leases.leases.remove(&id) {
            leases.order.remove(&(deadline, id));
        }
    }

    /// Forgets everything and starts these leases anew.
    pub(crate) fn reset(&self, granted: impl Iterator<Item = (LeaseId, i64)>) {
        let now = Instant::now();
        let mut leases = self.leases.lock();
        *leases = Deadlines::default();
        for (id, ttl) in granted {
            leases.set(id, seconds(ttl), now);
        }
        drop(leases);
        self.changed.notify_one();
    }

    /// Gives a lease its full time again, unless it has run out already.
    pub(crate) fn renew(&self, id: LeaseId) -> Renewal {
        let now = Instant::now();
        let mut leases = self.leases.lock();
        match leases.leases.get(&id).copied() {
            None => Renewal::Unknown,
            Some((deadline, _)) if deadline <= now => Renewal::Ended,
            Some((_, ttl)) => {
                leases.set(id, ttl, now);
                Renewal::Renewed(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
            }
        }
    }

    pub(crate) fn remaining(&self, id: LeaseId) -> Option<Duration> {
        let (deadline, _) = *self.leases.lock().leases.get(&id)?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn deadline(&self, id: LeaseId) -> Option<Instant> {
        self.leases.lock().leases.get(&id).map(|(deadline, _)| *deadline)
    }

    /// Waits until a lease has run out. The lease stays known until it is stopped.
    pub(crate) async fn expired(&self) -> LeaseId {
        loop {
            let next = self.leases.lock().order.first().copied();
            let Some((deadline, id)) = next else {
                self.changed.notified().await;
                continue;
            };
            if deadline <= Instant::now() {
                return id;
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}
