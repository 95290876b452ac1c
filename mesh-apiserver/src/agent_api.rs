//! What node agents call on port 2382: the view as a stream, registration, reports, renewal. Enrolment and joining, which
//! need no client certificate, are in [`join`].

mod encoded;
pub mod join;
mod presence;
mod service;

pub use encoded::AgentService;
pub use presence::{AgentState, Presence};
pub use service::AgentApi;
pub(crate) use service::unavailable;
