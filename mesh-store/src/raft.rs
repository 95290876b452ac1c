//! The embedded backend: MVCC state replicated by openraft, its log and snapshots in one folder.
//!
//! ```text
//!  Store::put --> Proposer --> Batcher --> openraft --> LogStore --> log/*.log   (one fdatasync for many clients)
//!                                             |
//!                                          Machine --> Replica (MVCC) --> answers, WatchHub --> watches
//!                                             +--> snapshot/*.snap, then the log before it is purged
//! ```
//! This is the only code that names openraft.

mod embedded;
mod lease_clock;
mod log;
mod log_store;
mod machine;
mod meta;
mod network;
mod propose;
mod replica;
mod retention;
mod snapshot;
#[cfg(test)]
mod suite_tests;
mod types;
mod upkeep;
mod watch;
mod watch_hub;

pub use embedded::{Embedded, OpenError, Options};
pub use log::Damage;
pub use log_store::LogStoreError;
pub use meta::MetaError;
pub use retention::Retention;
pub use snapshot::SnapshotError;
