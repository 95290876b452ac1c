//! A server and a client in each cluster; a Service for each cluster's servers, in both clusters.

use topology_tests::kubernetes::workload::{Workload, global_service, manifests};

pub(crate) fn of(cluster: &str) -> String {
    let pods = |name: &str, ports: &str| Workload { kind: "DaemonSet", name, cluster, ports, replicas: 0 }.object();
    // Its pods are in one cluster only; in the other, the Service is the way to them.
    let service =
        |of: &str| global_service(&format!("web-{of}"), &[("http", "TCP", 80, 8080), ("echo", "UDP", 90, 9090)]);
    manifests([
        &pods(&format!("web-{cluster}"), "8080/TCP,9090/UDP"),
        &pods("asker", ""),
        &service("cluster-a"),
        &service("cluster-b"),
    ])
}
