//! How clusters become one mesh: Cilium's clustermesh contract, sessions to remote clusters, the mirror, liveness, joining.
//!
//! ```text
//!  isthmus/v1/peers/<c> --Service--> Session <c> --etcd client, mTLS--> the peer's store
//!                                       |  Range/Watch, contract::validate
//!                                       v
//!                                    Mirror --one Txn: facts + resume point--> cilium/cache/<res>/v1/<c>/...
//!  heartbeats, agents' paths --liveness::Judge--> isthmus/v1/health/<c> --> the merged view leaves out what is withdrawn
//! ```
//!
//! Must never write outside a peer's own part of the store, and never send anything to a peer: each side only reads the other.

pub mod contract;
pub mod health;
mod imports;
pub mod join;
pub mod liveness;
pub mod metrics;
pub mod mirror;
pub mod outlook;
pub mod peer;
pub mod service;
pub mod session;
pub mod state;
pub mod trust;

pub use health::{Health, Loss};
pub use metrics::Metrics;
pub use outlook::Outlook;
pub use peer::{Declaration, PeerRecord};
pub use service::{DISCONNECT_GRACE, Handle, Options, Service, States, Tuning};
pub use state::State;
