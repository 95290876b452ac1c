//! Who serves and who asks. Servers end as Kubernetes asks of well-behaved ones: they go on for a moment after they were told,
//! since every client hears of it a little later.

use serde_json::json;
use topology_tests::kubernetes::workload::{Port, Workload, global_service, manifests, pod_of, service};

const HTTP: [Port<'static>; 1] = [("http", "TCP", 80, 8080)];

/// A pod on every node to ask from, and the Service `web` by its name alone.
pub(crate) fn askers(cluster: &str) -> String {
    let asker = Workload { kind: "DaemonSet", name: "asker", cluster, ports: "", replicas: 0 };
    manifests([&asker.object(), &global_service("web", &HTTP)])
}

/// A server on every node, behind the global Service `web` and behind `plain`, which is the cluster's own affair.
pub(crate) fn servers(cluster: &str) -> String {
    let web = Workload { kind: "Deployment", name: "web", cluster, ports: "8080/TCP", replicas: 2 };
    let mut web = web.spread();
    web["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    let pod = pod_of(&mut web);
    pod["terminationGracePeriodSeconds"] = 10.into();
    pod["containers"][0]["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 4 } } });
    let mut plain = service("plain", &HTTP);
    plain["spec"]["selector"]["app"] = "web".into();
    manifests([&web, &plain])
}
