//! The store, and the contract with remote clusters, under inputs that nobody meant: one function an input, which panics
//! where a rule breaks.
//!
//! `cargo xtask fuzz` runs them with libFuzzer, `cargo fuzz run TARGET` in `mesh-store/` does too; `tests/replay.rs` runs
//! what is in `corpus/` without it. `requests`, `log` and `snapshot` reach into the store and so live in it.
#![allow(clippy::unwrap_used, reason = "a panic is what a target reports with, as a test does")]

pub use contract::run as contract;
pub use mesh_store::fuzz::{log, requests, snapshot};
pub use txn::run as txn;

mod contract;
#[path = "../../mvcc/tests/model/reference.rs"]
mod reference;
mod txn;

/// What a fuzzer calls, and what it begins with.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// In the order of `fuzz_targets/`.
pub const TARGETS: [Target; 5] = [
    Target { name: "contract", run: contract, seeds: contract::seeds },
    Target { name: "log", run: log, seeds: mesh_store::fuzz::log_seeds },
    Target { name: "requests", run: requests, seeds: mesh_store::fuzz::request_seeds },
    Target { name: "snapshot", run: snapshot, seeds: mesh_store::fuzz::snapshot_seeds },
    Target { name: "txn", run: txn, seeds: txn::seeds },
];
