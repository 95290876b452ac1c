//! The programs in this kernel: the verifier's gate, crafted packets, attachments. Each test has its own network and mount
//! namespace and its own bpf file system, which vanish with the test's thread.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; a reason for skipping is their output")]

mod attach;
mod from_mesh;
mod from_pod;
mod harness;
mod packet;
mod services;
mod sockets;
mod to_wan;
mod verifier;
