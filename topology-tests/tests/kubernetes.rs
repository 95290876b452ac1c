//! Real Kubernetes clusters for tests: that they are what they say, and that nothing is left of them. Needs root, containerd
//! and Kubernetes' own programs (`cargo xtask k8s-tools`); a test that cannot run says `skipped: why`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]
