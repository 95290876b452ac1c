//! Links, rules, routes, tunnel and probe in this kernel, each test in network and mount namespaces of its own, which
//! vanish with the test. Needs root; says `skipped: why` otherwise.

mod harness;
mod pods;
mod tunnel;
mod underlay;
