//! The lab: clusters, nodes and pods as network namespaces on one machine; scenarios and faults
fn main() {}
