//! The control plane of one cluster.
//!
//! ```text
//!  manifests --source--> index --export--> store <--mirror-- federation <--etcd API-- joined clusters
//!                                           | |
//!                    etcd API (roles) ------+ +--> view --agent_api--> node agents
//!                                             +--> admin_api --> meshctl
//! ```
//! Owns the wiring ([`app`]) and everything between objects and keys. Must never talk to a kernel, and never reach into
//! another cluster's store but through `federation`.

pub mod admin_api;
pub mod agent_api;
pub mod app;
pub mod args;
pub mod callers;
pub mod controller;
pub mod credentials;
#[cfg(test)]
mod examples;
pub mod export;
pub mod follow;
pub mod identity;
pub mod index;
pub mod kubernetes;
pub mod mcs;
pub mod membership;
mod metrics;
pub mod objects;
mod own;
pub mod quorum;
pub mod registration;
pub mod roles;
pub mod rotation;
pub mod sights;
pub mod source;
pub mod trust;
pub mod users;
pub mod view;
