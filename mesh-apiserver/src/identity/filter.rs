//! Which labels are part of a pod's identity: Cilium's default filter (`pkg/labelsfilter`), so that a Cilium peer and
//! this cluster agree on what an identity is, and labels that differ by pod do not exhaust the range.
//!
//! Patterns match at the start of a label's key. A label that an exclusion matches is left out, unless an inclusion
//! matches a longer part of it.

use std::collections::BTreeMap;

use mesh_types::labels::{NAMESPACE_LABELS_PREFIX, POD_NAMESPACE, POLICY_CLUSTER, POLICY_SERVICE_ACCOUNT};
use mesh_types::{ClusterName, Label, LabelSet};

use crate::objects::Pod;

const INCLUDED: [&str; 5] =
    [POD_NAMESPACE, NAMESPACE_LABELS_PREFIX, "app.kubernetes.io", POLICY_CLUSTER, POLICY_SERVICE_ACCOUNT];

const EXCLUDED: [&str; 14] = [
    "io.kubernetes",
    "kubernetes.io",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/controller-uid",
    "k8s.io",
    "topology.kubernetes.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "annotation",
    "etcd_node",
];

/// Excluded wherever it occurs in the key (Cilium's `.*beta\.kubernetes\.io`).
const EXCLUDED_ANYWHERE: &str = "beta.kubernetes.io";

/// Keys that only the mesh itself may set; a pod that carries one could pretend to be of another cluster.
const RESERVED: &str = "io.cilium.k8s.";

fn is_relevant(key: &str) -> bool {
    let longest_inclusion = INCLUDED.iter().filter(|p| key.starts_with(**p)).map(|p| p.len()).max().unwrap_or(0);
    let at_start = EXCLUDED.iter().filter(|p| key.starts_with(**p)).map(|p| p.len());
    let anywhere = key.rfind(EXCLUDED_ANYWHERE).map(|at| at + EXCLUDED_ANYWHERE.len());
    at_start.chain(anywhere).min().is_none_or(|exclusion| longest_inclusion > exclusion)
}

/// The labels that make a pod's identity.
pub fn identity_labels(
    cluster: &ClusterName,
    pod: &Pod,
    namespace_labels: Option<&BTreeMap<String, String>>,
) -> LabelSet {
    let meta = &pod.metadata;
    let own = meta.labels.iter().filter(|(key, _)| !key.starts_with(RESERVED) && is_relevant(key));
    let mut set: LabelSet = own.map(|(key, value)| Label::k8s(key, value)).collect();
    let of_namespace = |key: &str| format!("{NAMESPACE_LABELS_PREFIX}.{key}");
    for (key, value) in namespace_labels.into_iter().flatten() {
        set.insert(Label::k8s(of_namespace(key), value));
    }
    // Kubernetes sets this one on every namespace, whether or not a manifest says so.
    set.insert(Label::k8s(of_namespace("kubernetes.io/metadata.name"), &meta.namespace));
    set.insert(Label::k8s(POD_NAMESPACE, &meta.namespace));
    set.insert(Label::k8s(POLICY_CLUSTER, cluster.as_str()));
    set.insert(Label::k8s(POLICY_SERVICE_ACCOUNT, pod.service_account()));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_differ_by_pod_are_left_out_and_policy_labels_stay() {
        for kept in
            ["app", "app.kubernetes.io/name", "batch.kubernetes.io/job-name", "team", "io.kubernetes.pod.namespace"]
        {
            assert!(is_relevant(kept), "{kept}");
        }
        for left_out in [
            "pod-template-hash",
            "controller-revision-hash",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
            "batch.kubernetes.io/job-completion-index",
            "kubernetes.io/hostname",
            "failure-domain.beta.kubernetes.io/zone",
            "k8s.io/anything",
            "annotation.x",
            "io.kubernetes.container.name",
        ] {
            assert!(!is_relevant(left_out), "{left_out}");
        }
    }

    #[test]
    fn an_identity_says_cluster_namespace_and_account_whatever_the_pod_claims() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "cart-0", "namespace": "shop", "labels": {
                "app": "cart", "statefulset.kubernetes.io/pod-name": "cart-0",
                "io.cilium.k8s.policy.cluster": "other",
            }},
            "spec": {"serviceAccountName": "cart"},
        }))
        .unwrap();
        let namespace = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
        let labels = identity_labels(&ClusterName::new("east").unwrap(), &pod, Some(&namespace));
        assert_eq!(
            labels.to_sorted_list(),
            "k8s:app=cart;k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop;\
             k8s:io.cilium.k8s.namespace.labels.tier=gold;k8s:io.cilium.k8s.policy.cluster=east;\
             k8s:io.cilium.k8s.policy.serviceaccount=cart;k8s:io.kubernetes.pod.namespace=shop;"
        );
    }
}
