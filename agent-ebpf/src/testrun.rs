//! Running programs on crafted packets, for tests and benchmarks.
