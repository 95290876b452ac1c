//! etcd's multi-version key space as a pure value: commands go in, responses and events come out.
//!
//! This crate owns the *meaning* of every operation of the store (revisions, versions, leases, transactions, compaction
//! and the history that watches read). It must never do I/O, read a clock, draw a random number or await anything: the
//! same commands in the same order give the same state on every replica.
//!
//! ```text
//!  Command --> State::apply --> Result<Response> + events of one revision
//!                  |                                   |
//!              keyspace (versions per key)         history (changes since compaction) --> watches
//! ```

mod alarm;
mod command;
mod error;
mod hash;
mod history;
mod key_range;
mod keyspace;
mod lease;
mod overlay;
mod query;
mod range;
mod record;
mod state;
mod stored;
mod txn;

pub use alarm::{Alarm, AlarmAction, AlarmKind, Quota};
pub use command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, LeaseGranted, PutRequest,
    PutResponse, Response, TxnOp, TxnOpResponse, TxnRequest, TxnResponse,
};
pub use error::{Code, Error};
pub use hash::{HashKv, Hashing};
pub use history::{Changed, Changes, HistoryError};
pub use key_range::KeyRange;
pub use lease::{LeaseId, MAX_LEASE_TTL, MIN_LEASE_TTL};
pub use overlay::Overlay;
pub use query::{RangeRequest, RangeResponse, SortOrder, SortTarget};
pub use record::{Event, EventKind, KeyValue, Revision};
pub use state::{Applied, Image, State};
pub use txn::DEFAULT_MAX_TXN_OPS;

#[cfg(test)]
mod tests;
