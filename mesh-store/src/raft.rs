//! The embedded backend: MVCC state replicated by openraft, its log and snapshots in one folder.
//!
//! ```text
//!  Store::put --> Proposer --> Batcher --part--> Intake of the leader --entry--> openraft --> LogStore --> log/*.log
//!                                  (here, or over Transport)                        |
//!                                                               Network --> Transport --> Receiver of the others
//!                                                                                   |
//!                               clients <-- Tickets <-- Replica (MVCC) <-- Machine --+--> snapshot/*.snap
//!                                                        +--> WatchHub --> watches
//! ```
//! This is the only code that names openraft.

mod disk;
mod election;
mod embedded;
mod free_space;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod hostile;
mod intake;
mod leader;
mod leadership;
mod lease_calls;
mod lease_clock;
mod log;
mod log_store;
mod machine;
mod members;
mod meta;
mod network;
mod peers;
mod propose;
mod quorum;
mod read_index;
mod receiver;
mod recent;
mod replica;
mod retention;
mod rpc;
mod sessions;
mod snapshot;
mod snapshot_receive;
mod snapshot_send;
mod start;
#[cfg(test)]
mod suite_tests;
mod tickets;
mod timing;
mod transfer;
mod transport;
mod types;
mod upkeep;
mod watch;
mod watch_hub;

pub use disk::{Disk, DiskFile, RealDisk};
pub use embedded::{Embedded, OpenError, Options, RestoreError, Restored};
pub use free_space::NoRoom;
pub use log::Damage;
pub use log_store::LogStoreError;
pub use meta::MetaError;
pub use receiver::Receiver;
pub use retention::Retention;
pub use snapshot::SnapshotError;
pub use start::{Start, StartError};
pub use timing::Timing;
pub use transport::{MAX_MESSAGE_BYTES, NoPeers, Transport, TransportError};
