//! Going over to another CA, and renewing leaves on demand: the records in the store, what each replica does with them, and
//! what the holder of the controller's role does for all.
//!
//! ```text
//!  meshctl --admin API--> isthmus/v1/rotation/{ca,leaves} --Follower, on every replica--> Credentials (bundle, leaves, files)
//!                              ^                                                               |
//!                              |  compare and put                                              v
//!                          Conductor (one, in the term) <---- Parties: replicas, agents, peers say what they hold
//! ```
//! The schedule itself is [`certs::rotation`]; nothing here decides when a stage ends.

mod conductor;
mod follower;
mod parties;
mod record;

pub use self::conductor::{Conductor, OVERLAP};
pub use self::follower::{Follower, Following};
pub(crate) use self::parties::ca_row;
pub use self::parties::{Census, Parties};
pub use self::record::{Error, LeafRequests, read_ca, read_leaves, replace_ca, request_leaves};
