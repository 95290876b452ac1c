//! The objects of the MCS API (KEP-1645) in the own cluster: an import for each name that the cluster set exports, the Service
//! and the slices that carry it, and what is said of the own exports.
//!
//! ```text
//!  source --tap--> Local --+                                 +-> ServiceImport, its status
//!                          +--> Wanted --(Standing, Memory)--+-> derived Service, EndpointSlices
//!  store's mirror > Remote +     ^                           +-> status of ServiceExport
//!                                +-- resolve: the oldest export is right
//! ```
//! What is to be is decided in pure parts; `reconcile` alone writes, by [`crate::kubernetes::McsObjects`]. Only the holder of
//! the controller's role runs it. It must never touch an object that it has not made, but for the status of ServiceExports.
//!
//! Backends cross clusters as those of a global Service: the derived one, which has the same name everywhere, Cilium's
//! included. So agents balance over it as over any other, and the slices made here say the same to kube-proxy and DNS.

mod conditions;
mod local;
mod memory;
pub(crate) mod names;
mod ports;
mod reconcile;
mod remote;
mod resolve;
mod run;
mod slices;
mod standing;
mod status;
mod tap;
mod wanted;
mod words;

pub use run::{Controller, Failure};
pub use status::{Status, StatusHandle};
pub use tap::{Seen, Tap};
