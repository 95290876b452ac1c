//! What the index wants, written into the store: Cilium's layout for remote clusters, `isthmus/v1/local/` for the own agents.
//!
//! ```text
//!  source --Batch--> Index --Change--> Facts (numbers, encodings, audiences) --> Planner (diff) --Txn--> store
//!  isthmus/v1/nodes/ --Registration--^
//! ```
//! One task owns all of it. A key is written when it differs from what the store holds and never otherwise, so a restart
//! that finds nothing changed writes nothing. Data keys carry no lease.

mod audience;
mod exporter;
mod facts;
mod heartbeat;
pub mod keys;
mod planner;

pub use exporter::{Error, Exporter, Options, Status, StatusHandle};
pub use facts::Facts;
pub use heartbeat::Heartbeat;
pub use planner::{Batch, Limits, Planner};

#[cfg(test)]
mod tests;
