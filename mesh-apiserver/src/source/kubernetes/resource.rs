//! The resources that are watched. Whoever adds one adds it to the ClusterRole in `docs/kubernetes/source-rbac.yaml`, too;
//! that of ServiceImports is in `mcs-rbac.yaml`.
//!
//! ServiceAccounts are not among them: of a pod's account the mesh uses the name, which the pod itself says.

use crate::objects::Kind;

/// Where the objects of a kind are in the API.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// Empty for the core group.
    group: &'static str,
    /// Best first; they say the same.
    versions: &'static [&'static str],
    plural: &'static str,
}

pub(super) const ALL: [Resource; 6] = [
    Resource { kind: Kind::Namespace, group: "", versions: &["v1"], plural: "namespaces" },
    Resource { kind: Kind::Node, group: "", versions: &["v1"], plural: "nodes" },
    Resource { kind: Kind::Pod, group: "", versions: &["v1"], plural: "pods" },
    Resource { kind: Kind::Service, group: "", versions: &["v1"], plural: "services" },
    Resource { kind: Kind::EndpointSlice, group: "discovery.k8s.io", versions: &["v1"], plural: "endpointslices" },
    Resource {
        kind: Kind::ServiceExport,
        group: "multicluster.x-k8s.io",
        versions: &["v1beta1", "v1alpha1"],
        plural: "serviceexports",
    },
];

/// Read as well where this server makes the objects of the MCS API: what became of those it made.
pub(super) const IMPORTS: Resource = Resource {
    kind: Kind::ServiceImport,
    group: "multicluster.x-k8s.io",
    versions: &["v1beta1"],
    plural: "serviceimports",
};

impl Resource {
    /// Of the objects of all namespaces, in one of its versions, counted round and round.
    pub(super) fn path(&self, turn: usize) -> String {
        let Self { group, versions, plural, .. } = self;
        let version = versions[turn % versions.len()];
        if group.is_empty() { format!("/api/{version}/{plural}") } else { format!("/apis/{group}/{version}/{plural}") }
    }

    /// How many versions of it there may be.
    pub(super) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// As RBAC and kubectl write it: `pods`, `endpointslices.discovery.k8s.io`.
    pub(super) fn name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Every API server has it. Another one comes with a CRD, which may be installed later, or never: until then there are
    /// no such objects, and that is no fault.
    pub(super) fn comes_with_kubernetes(&self) -> bool {
        // Kubernetes keeps the names under k8s.io to itself. Its projects have x-k8s.io.
        self.group.is_empty() || self.group.ends_with(".k8s.io")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_role_allows_what_is_asked_and_nothing_else() {
        use std::collections::BTreeSet;
        let text = include_str!("../../../../docs/kubernetes/source-rbac.yaml");
        let role: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        let words = |rule: &serde_json::Value, list: &str| -> Vec<String> {
            rule[list].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let mut allowed = BTreeSet::new();
        for rule in role["rules"].as_array().unwrap() {
            assert_eq!(words(rule, "verbs"), ["list", "watch"]);
            assert_eq!(rule.as_object().unwrap().len(), 3, "{rule}");
            for group in words(rule, "apiGroups") {
                allowed.extend(words(rule, "resources").into_iter().map(|plural| (group.clone(), plural)));
            }
        }
        let asked = ALL.iter().map(|resource| (resource.group.to_owned(), resource.plural.to_owned()));
        assert_eq!(allowed, asked.collect());
    }

    #[test]
    fn paths_and_names_are_those_of_the_api_and_of_rbac() {
        let of = |kind| ALL.iter().find(|resource| resource.kind == kind).unwrap();
        assert_eq!((of(Kind::Pod).path(0), of(Kind::Pod).name()), ("/api/v1/pods".into(), "pods".into()));
        let slices = of(Kind::EndpointSlice);
        assert_eq!(slices.path(0), "/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(slices.name(), "endpointslices.discovery.k8s.io");
        let exports = of(Kind::ServiceExport);
        assert_eq!(exports.path(1), "/apis/multicluster.x-k8s.io/v1alpha1/serviceexports");
        assert_eq!(exports.path(exports.versions()), exports.path(0));
        let of_crds: Vec<Kind> = ALL.iter().filter(|one| !one.comes_with_kubernetes()).map(|one| one.kind).collect();
        assert_eq!(of_crds, [Kind::ServiceExport]);
    }
}
