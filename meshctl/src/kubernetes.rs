//! Clusters of Kubernetes, as a kubeconfig names them: the way to their API server, to the mesh inside, and what of both
//! other parts may ask.
//!
//! Owns the caller's credentials while a command runs, and shows none of them. Must never decide about the mesh, and writes
//! nothing but the account of [`account`].
//!
//! ```text
//! kubeconfig ─> cluster (client) ─┬> release (where mesh-apiserver is) ─> trust (its CA) ─┐
//!                                 └> account (the caller's token) ────────────────────────┴> forward ─> admin API
//! ```

pub(crate) mod account;
pub(crate) mod cluster;
pub(crate) mod exec;
pub(crate) mod failure;
pub(crate) mod forward;
pub(crate) mod kubeconfig;
pub(crate) mod release;
pub(crate) mod undo;

pub(crate) use cluster::Cluster;
pub(crate) use failure::Error;
pub(crate) use kubeconfig::Access;
pub(crate) use release::Release;
