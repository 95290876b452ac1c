//! What every process needs whatever it does: ordered stop, named tasks, readiness, the admin HTTP server, telemetry,
//! exit codes, backoff, the clock, and files that are never half written.
//!
//! Owns the life of a process. Must never know a word of the mesh (cluster, node, service, peer): every other crate may
//! lean on this one, and this one on none of them.

pub mod admin;
pub mod backoff;
pub mod chain;
pub mod clock;
pub mod exit;
pub mod file;
pub mod mistakes;
pub mod readiness;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

pub use backoff::Backoff;
pub use chain::ErrorChain;
pub use mistakes::Mistakes;
pub use readiness::{Readiness, ReadyGuard};
pub use shutdown::{Cause, Shutdown};
pub use tasks::{OnExit, TaskSet};
