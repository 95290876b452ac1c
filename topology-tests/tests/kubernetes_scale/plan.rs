//! What the generator makes, as objects: fake nodes, fake pods on them, global Services, and who is counted how by the API
//! server. Pure; `fill` makes it so.
//!
//! Nothing is scheduled to the fake nodes: a taint keeps Deployments and the like away, and without the label
//! `kubernetes.io/os` neither the chart's DaemonSets, which bear every taint, nor most others want them. Kubernetes' own
//! controllers take them for nodes as long as their leases are renewed. KWOK does the same.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use topology_tests::kubernetes::release;
use topology_tests::topology::ClusterPlan;

pub(crate) const NODES: usize = 50;
pub(crate) const ENDPOINTS_OF_A_SERVICE: usize = 10;
pub(crate) const NAMESPACE: &str = "many";
pub(crate) const PORT: u16 = 80;
/// Who makes the objects and renews the leases, and what the API server calls its requests and those of the mesh.
pub(crate) const USER: &str = "scale-generator";
pub(crate) const MESH: &str = "scale-mesh";

pub(crate) const ALL_NODES: &str = "/api/v1/nodes";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
pub(crate) const PODS: &str = "/api/v1/namespaces/many/pods";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/many/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/many/endpointslices";

/// As a kubelet of this version asks for: the controller waits longer than that.
const LEASE_SECONDS: u32 = 40;
/// Fake nodes are numbered from here in their cluster's prefixes, behind the real ones.
const FIRST: usize = 101;

/// A fake pod: the `index`th of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) service: usize,
    pub(crate) index: usize,
}

/// Those of so many Services, one Service after the other.
pub(crate) fn pods(services: usize) -> impl Iterator<Item = Pod> {
    (0..services).flat_map(|service| (0..ENDPOINTS_OF_A_SERVICE).map(move |index| Pod { service, index }))
}

/// So many Services fit into the fake nodes' prefixes, with one pod to spare on each node.
pub(crate) const MOST_SERVICES: usize = MOST_ON_A_NODE * NODES / ENDPOINTS_OF_A_SERVICE;
const MOST_ON_A_NODE: usize = 250;

impl Pod {
    pub(crate) fn name(self) -> String {
        format!("s{}-{}", self.service, self.index)
    }

    /// Pods of one Service are on different nodes.
    fn node(self) -> usize {
        self.place().0
    }

    fn address(self, plan: &ClusterPlan) -> Ipv4Addr {
        let (node, nth) = self.place();
        within(plan.pod_cidr.network(), (FIRST + node) * 256 + nth)
    }

    /// Its node, and which address there. One more than a Service has at first gets the one that each node has to spare.
    fn place(self) -> (usize, usize) {
        if self.index >= ENDPOINTS_OF_A_SERVICE {
            return (self.service % NODES, MOST_ON_A_NODE + 1);
        }
        let number = self.service * ENDPOINTS_OF_A_SERVICE + self.index;
        (number % NODES, number / NODES + 1)
    }

    pub(crate) fn object(self) -> Value {
        json!({
            "metadata": { "name": self.name(), "labels": { "app": service_name(self.service) } },
            "spec": {
                "nodeName": node_name(self.node()),
                "containers": [{ "name": "main", "image": "none", "ports": [{ "containerPort": 8080 }] }],
                "tolerations": [{ "operator": "Exists" }],
                "automountServiceAccountToken": false,
            },
        })
    }

    /// What its node's kubelet would say of it.
    pub(crate) fn status(self, plan: &ClusterPlan, is_ready: bool) -> Value {
        let (ip, host) = (self.address(plan), node_address(plan, self.node()));
        json!({ "status": {
            "phase": "Running",
            "hostIP": host, "hostIPs": [{ "ip": host }],
            "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": ready_and(is_ready, &["Initialized", "ContainersReady", "PodScheduled"]),
        } })
    }
}

pub(crate) fn service_name(service: usize) -> String {
    format!("s{service}")
}

pub(crate) fn service(service: usize) -> Value {
    json!({
        "metadata": { "name": service_name(service), "annotations": { "mesh.isthmus.io/global": "true" } },
        "spec": {
            "selector": { "app": service_name(service) },
            "ports": [{ "name": "http", "port": PORT, "targetPort": 8080 }],
        },
    })
}

pub(crate) fn node_name(node: usize) -> String {
    format!("fake-{node}")
}

fn node_address(plan: &ClusterPlan, node: usize) -> Ipv4Addr {
    within(plan.node_subnet.network(), FIRST + node)
}

pub(crate) fn node(plan: &ClusterPlan, node: usize) -> Value {
    let pods = format!("{}/24", within(plan.pod_cidr.network(), (FIRST + node) * 256));
    json!({
        "metadata": { "name": node_name(node), "labels": { "kubernetes.io/hostname": node_name(node) } },
        "spec": {
            "podCIDR": pods, "podCIDRs": [pods],
            "taints": [{ "key": "isthmus.test/fake", "effect": "NoSchedule" }],
        },
    })
}

pub(crate) fn node_status(plan: &ClusterPlan, node: usize) -> Value {
    let room = json!({ "cpu": "64", "memory": "256Gi", "pods": "250" });
    json!({ "status": {
        "addresses": [
            { "type": "InternalIP", "address": node_address(plan, node) },
            { "type": "Hostname", "address": node_name(node) },
        ],
        "capacity": room, "allocatable": room,
        "conditions": ready_and(true, &[]),
    } })
}

pub(crate) fn lease(node: usize) -> Value {
    let mut lease = renewal();
    lease["metadata"] = json!({ "name": node_name(node) });
    lease["spec"]["holderIdentity"] = node_name(node).into();
    lease["spec"]["leaseDurationSeconds"] = LEASE_SECONDS.into();
    lease
}

/// Kubernetes wants six digits after the second.
pub(crate) fn renewal() -> Value {
    json!({ "spec": { "renewTime": format!("{:.6}", jiff::Timestamp::now()) } })
}

fn ready_and(is_ready: bool, others: &[&str]) -> Value {
    let condition = |kind: &str, is_true: bool| {
        let status = if is_true { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let ready = condition("Ready", is_ready);
    others.iter().map(|kind| condition(kind, true)).chain([ready]).collect()
}

/// Addresses of this plan are far from the end of their prefixes.
fn within(network: Ipv4Addr, offset: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network) + u32::try_from(offset).unwrap_or(0))
}

/// The namespace, the generator's rights, and two flow schemas: each is one label of the API server's own counters. The
/// generator is exempt from its limits; the mesh is where it would be without.
pub(crate) fn preparations() -> String {
    let rules = json!({
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
        }],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
    });
    let schema = |name: &str, level: &str, precedence: u32, subject: Value| {
        let mut rules = rules.clone();
        rules["subjects"] = json!([subject]);
        json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": { "name": name },
            "spec": {
                "priorityLevelConfiguration": { "name": level },
                "matchingPrecedence": precedence,
                "distinguisherMethod": { "type": "ByUser" },
                "rules": [rules],
            },
        })
    };
    let account = json!({ "namespace": release::NAMESPACE, "name": "*" });
    let items = json!([
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": USER },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER }],
        },
        schema(USER, "exempt", 1_000, json!({ "kind": "User", "user": { "name": USER } })),
        schema(MESH, "workload-low", 8_000, json!({ "kind": "ServiceAccount", "serviceAccount": account })),
    ]);
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}
