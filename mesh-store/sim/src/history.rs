//! What the clients of one run asked, when, and what they were told; and what the store says happened, read at the end.
//!
//! It owns the record only. Whether it is right is for [`crate::check`] to say.

use std::collections::BTreeMap;
use std::time::Duration;

/// A key of the simulated clients.
pub type Key = String;
/// Every write of a run has a value of its own.
pub type Value = u64;

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Get,
    Put(Value),
    Delete,
    /// Takes a lock: puts if the key is not there.
    Create(Value),
    /// Puts if the key was last changed at this revision.
    Swap {
        at: i64,
        to: Value,
    },
    /// Gives a lock back: deletes if the key holds this value.
    Release(Value),
}

impl Ask {
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Get)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// The key's value and the revision of its last change.
    Found(Option<(Value, i64)>),
    Done,
    /// Whether a condition held.
    Held(bool),
}

/// An answer that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub told: Told,
    /// The revision in the answer's header.
    pub revision: i64,
}

/// `start` and `end` are places in the order of everything that clients did and saw.
#[derive(Clone, Debug)]
pub struct Op {
    pub client: usize,
    pub key: Key,
    pub ask: Ask,
    pub start: u64,
    /// `None` when no answer came, or one that leaves open whether it was done: then it may have been at any time after
    /// its start, or never.
    pub answer: Option<(u64, Answer)>,
}

/// A serializable read: one replica's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRead {
    pub replica: u64,
    pub key: Key,
    pub found: Option<(Value, i64)>,
    pub revision: i64,
}

/// One change of a key; `value` is `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub key: Key,
    pub value: Option<Value>,
}

/// What the store says happened: the changes of each revision. Read without watches.
pub type Committed = BTreeMap<i64, Vec<Change>>;

/// What one watcher saw, over all replicas that it was connected to.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub prefix: Key,
    /// The first revision that it had to see.
    pub from: i64,
    pub seen: Vec<Seen>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Event {
        revision: i64,
        change: Change,
    },
    /// Everything up to here was delivered, says the store.
    Upto(i64),
}

/// One lease, by the virtual time since the start of the run.
#[derive(Clone, Debug)]
pub struct Lease {
    pub id: i64,
    pub ttl: Duration,
    /// When each grant or keep-alive that succeeded was *asked*: not earlier than its effect.
    pub renewed: Vec<Duration>,
    /// When its holder first asked to revoke it.
    pub revoked: Option<Duration>,
    /// When it was first seen to be gone.
    pub gone: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub ops: Vec<Op>,
    /// Values whose writes were refused, with the promise that nothing was done.
    pub refused: Vec<Value>,
    pub local_reads: Vec<LocalRead>,
    pub watched: Vec<Watched>,
    pub leases: Vec<Lease>,
    /// Every number that a replica gave itself as that of the group.
    pub cluster_ids: Vec<u64>,
    pub committed: Committed,
    /// What the replicas hold at the end, each with the newest revision.
    pub replicas: BTreeMap<u64, Committed>,
}
