//! Whole meshes in the lab, one promise a test. Needs root; a test that cannot run says `skipped: why`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]

mod affinity;
mod bad_input;
mod cut_off;
mod failover;
mod forged_packets;
mod full_disk;
mod partition;
mod preference;
mod real_manifests;
mod restarts;
mod rotation;
mod staleness;
mod store_clients;
mod walking;
