//! Per cluster: manifests to keys, the store, the mirror of the other clusters, the agents' view
fn main() {}
