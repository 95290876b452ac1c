//! Per node: the merged view into eBPF maps, routes and tunnels
fn main() {}
