//! Links, rules, routes, tunnel and probe in this kernel, each test in network and mount namespaces of its own, which
//! vanish with the test. Needs root; says `skipped: why` otherwise.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it found, and any failure fails it")]

mod control;
mod harness;
mod pods;
mod rights;
mod tunnel;
mod underlay;
