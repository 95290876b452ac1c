//! The whole store as one value, and the only function that changes it.

use std::borrow::Borrow;

use crate::alarm::{Alarm, Alarms};
use crate::hash;
use crate::history::{Changed, Changes, History, Since};
use crate::keyspace::Keyspace;
use crate::lease::Leases;
use crate::overlay::Overlay;
use crate::range::{self, View};
use crate::stored::Record;
use crate::txn::{self, Path};
use crate::{
    Command, Error, Hashing, HistoryError, KeyRange, KeyValue, LeaseGranted, LeaseId, RangeRequest, RangeResponse,
    Response, TxnRequest, TxnResponse,
};

mod image;
mod write;

pub use image::Image;
use write::Write;

/// An empty store is at revision 1, as etcd's is: the first change makes revision 2.
const EMPTY_REVISION: i64 = 1;

/// Below every revision that can be named: compacting an empty store at 0 is no repetition, as in etcd.
const NEVER_COMPACTED: i64 = -1;

/// What a command did.
#[derive(Debug)]
pub struct Applied {
    pub result: Result<Response, Error>,
    /// What the revision that the command made has changed; empty when it made none.
    pub events: Changed,
}

#[derive(Clone, Debug)]
pub struct State {
    revision: i64,
    /// [`NEVER_COMPACTED`] until the first compaction.
    compacted: i64,
    keyspace: Keyspace,
    leases: Leases,
    alarms: Alarms,
    history: History,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: EMPTY_REVISION,
            compacted: NEVER_COMPACTED,
            keyspace: Keyspace::default(),
            leases: Leases::default(),
            alarms: Alarms::default(),
            history: History::default(),
        }
    }
}

impl State {
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision last compacted at, 0 for none: reads and watches below it are refused.
    pub fn compact_revision(&self) -> i64 {
        self.compacted.max(0)
    }

    /// Keys that exist now.
    pub fn key_count(&self) -> usize {
        self.keyspace.live()
    }

    /// Roughly the bytes that all kept versions take.
    pub fn bytes_in_use(&self) -> usize {
        self.keyspace.bytes()
    }

    /// How many revisions the history holds.
    pub fn history_len(&self) -> usize {
        self.history.len()
    }

    /// Applies one command. The same commands in the same order give the same state everywhere.
    pub fn apply(&mut self, command: impl Borrow<Command>) -> Applied {
        let command = command.borrow();
        if let Some(refusal) = self.alarms.refuse(command) {
            return Applied { result: Err(refusal), events: Changed::default() };
        }
        let mut write = Write::begin(self);
        let result = match command {
            Command::Put(request) => write.put(request).map(Response::Put),
            Command::DeleteRange(request) => write.delete_range(request).map(Response::DeleteRange),
            Command::Txn(request) => write.txn(request).map(Response::Txn),
            Command::LeaseRevoke { id } => write.revoke(*id).map(|revision| Response::LeaseRevoke { revision }),
            Command::LeaseGrant { id, ttl } => {
                return Applied { result: self.grant(*id, *ttl), events: Changed::default() };
            }
            Command::Alarm { action, alarm } => {
                let alarm = self.alarms.set(*action, *alarm);
                let result = Ok(Response::Alarm { revision: self.revision, alarm });
                return Applied { result, events: Changed::default() };
            }
            Command::Compact { revision } => {
                return Applied { result: self.compact(*revision), events: Changed::default() };
            }
        };
        let events = write.finish();
        Applied { result, events }
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        range::check(request)?;
        range::read(self.view(), request)
    }

    /// The same of what is shown through an overlay: as if its keys were where they are shown.
    pub fn range_through(&self, request: &RangeRequest, overlay: &Overlay) -> Result<RangeResponse, Error> {
        range::check(request)?;
        range::read_through(self.view(), request, Some(overlay))
    }

    /// Answers a transaction for which [`TxnRequest::is_read_only`] holds, without a command.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        request.check(usize::MAX)?;
        let path = Path::decide(self.view(), request);
        txn::check_reads(self.view(), request, &path)?;
        txn::read(self.view(), request, &path)
    }

    /// One key as of now.
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.keyspace.get(key, self.revision).map(Record::key_value)
    }

    /// The changes from `revision` on, oldest first, one item a revision.
    pub fn history_since(&self, revision: i64) -> Result<impl Iterator<Item = Changes<'_>> + '_, HistoryError> {
        if revision < self.compacted {
            return Err(HistoryError::Compacted { revision, compact_revision: self.compact_revision() });
        }
        Ok(Since::new(&self.history, &self.keyspace, self.compacted, revision))
    }

    /// Granted leases with their time to live, in order of their ids.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        self.leases.iter()
    }

    /// The time to live that a lease was granted.
    pub fn lease_ttl(&self, id: LeaseId) -> Option<i64> {
        self.leases.ttl(id)
    }

    /// The keys attached to a lease, in byte order.
    pub fn lease_keys(&self, id: LeaseId) -> Option<Vec<bytes::Bytes>> {
        self.leases.keys(id)
    }

    /// Hashes what is kept of the history up to a revision (0 for all of it): equal on every replica, and on an etcd with
    /// the same history, but for revisions that were themselves compacted at, for which etcd remembers an older answer.
    pub fn hash_kv(&self, revision: i64) -> Result<Hashing, Error> {
        if revision > 0 && revision < self.compacted {
            return Err(Error::Compacted { compact_revision: self.compact_revision() });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        let upto = if revision == 0 { self.revision } else { revision };
        let kept = hash::kept(&self.keyspace, self.compacted, upto);
        Ok(Hashing { kept, compact_revision: self.compacted, hash_revision: upto, revision: self.revision })
    }

    /// The alarms that are raised, by kind and member.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.alarms.iter()
    }

    /// The state as a value that can be stored; [`State::restore`] makes an equal state of it.
    pub fn image(&self) -> Image {
        Image {
            revision: self.revision,
            compacted: self.compacted,
            leases: self.leases.iter().collect(),
            leases_chosen: self.leases.chosen(),
            alarms: self.alarms.iter().collect(),
            keys: self.keyspace.histories().cloned().collect(),
        }
    }

    pub fn restore(image: Image) -> Self {
        let keyspace = Keyspace::restore(image.keys);
        let mut leases = Leases::restore(image.leases, image.leases_chosen);
        for record in keyspace.scan(&KeyRange::all(), image.revision).filter(|record| record.lease != 0) {
            leases.attach(record.lease, record.key());
        }
        let history = History::rebuild(&keyspace, image.compacted);
        let alarms = Alarms::restore(image.alarms);
        Self { revision: image.revision, compacted: image.compacted, keyspace, leases, alarms, history }
    }

    fn view(&self) -> View<'_> {
        View { keyspace: &self.keyspace, revision: self.revision, compacted: self.compacted }
    }

    fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<Response, Error> {
        let (id, ttl) = self.leases.grant(id, ttl)?;
        Ok(Response::LeaseGrant(LeaseGranted { revision: self.revision, id, ttl }))
    }

    fn compact(&mut self, revision: i64) -> Result<Response, Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted { compact_revision: self.compact_revision() });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        // A key that is not named below the boundary has at most one version there, and that is the one to keep; what the
        // last compaction had to leave at its boundary is named by the oldest batch.
        for record in self.history.compact(revision) {
            self.keyspace.trim(record.key(), revision);
        }
        for record in self.history.at_front(revision) {
            self.keyspace.trim(record.key(), revision);
        }
        self.compacted = revision;
        Ok(Response::Compact { revision: self.revision })
    }
}
