//! The store of one cluster: replicated by Raft, durable, with etcd's semantics and etcd's gRPC API.
//!
//! ```text
//!  etcd clients --> etcd/ (gRPC services) --+
//!                                           +--> trait Store (backend.rs) --> raft/ (embedded) --> mvcc
//!  callers in this process -----------------+            |                         | |
//!  other replicas --> raft_port/ (gRPC) -----------------|--------------------------+ +--> log and snapshot files
//!                                                        +--> external/ --> an etcd that somebody else runs
//! ```

pub mod auth;
pub mod backend;
mod backup;
pub mod etcd;
pub mod external;
mod fence;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod metrics;
mod raft;
pub mod raft_port;

pub use backend::Store;
pub use backup::{BackupError, BackupHead, verify as verify_backup};
pub use external::External;
pub use fence::Fenced;
/// The words of requests, responses and events.
pub use mesh_store_mvcc as mvcc;
pub use metrics::{Metrics, PrincipalLabel};
pub use raft::{
    Damage, Disk, DiskFile, Embedded, LogStoreError, MAX_MESSAGE_BYTES, MetaError, NoPeers, NoRoom, OpenError, Options,
    RealDisk, Receiver, RestoreError, Restored, Retention, SnapshotError, Start, StartError, Timing, Transport,
    TransportError,
};
