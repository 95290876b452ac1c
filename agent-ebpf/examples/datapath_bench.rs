//! Nanoseconds per packet of the datapath's programs.
fn main() {}
