//! Benchmarks that need whole processes: the store beside real etcd, the way of a change from a file in one cluster to a
//! kernel map in the other, and one cluster with as many peers as a mesh may have. Each writes one JSON file under `target/bench/` and prints a table.
//!
//! Figures of different runs are not comparable on shared cores: what is compared is measured in one run, alternating.

pub mod convergence;
pub mod federation;
pub mod report;
pub mod stats;
pub mod store;

/// The real etcd to measure beside.
pub use ::etcd_peer;
