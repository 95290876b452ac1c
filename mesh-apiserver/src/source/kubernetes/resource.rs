//! The resources that are watched. Whoever adds one adds it to the ClusterRole in `docs/kubernetes/source-rbac.yaml`, too.
//!
//! ServiceAccounts are not among them: of a pod's account the mesh uses the name, which the pod itself says.

use crate::objects::Kind;

/// Where the objects of a kind are in the API.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// Empty for the core group.
    group: &'static str,
    version: &'static str,
    plural: &'static str,
}

pub(super) const ALL: [Resource; 5] = [
    Resource { kind: Kind::Namespace, group: "", version: "v1", plural: "namespaces" },
    Resource { kind: Kind::Node, group: "", version: "v1", plural: "nodes" },
    Resource { kind: Kind::Pod, group: "", version: "v1", plural: "pods" },
    Resource { kind: Kind::Service, group: "", version: "v1", plural: "services" },
    Resource { kind: Kind::EndpointSlice, group: "discovery.k8s.io", version: "v1", plural: "endpointslices" },
];

impl Resource {
    /// Of the objects of all namespaces.
    pub(super) fn path(&self) -> String {
        let Self { group, version, plural, .. } = self;
        if group.is_empty() { format!("/api/{version}/{plural}") } else { format!("/apis/{group}/{version}/{plural}") }
    }

    /// As RBAC and kubectl write it: `pods`, `endpointslices.discovery.k8s.io`.
    pub(super) fn name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Every API server has it. Another one comes with a CRD, which may be installed later, or never: until then there are
    /// no such objects, and that is no fault.
    pub(super) fn comes_with_kubernetes(&self) -> bool {
        // Groups of CRDs must have a dot in them; of those, Kubernetes keeps the names under k8s.io to itself, all but
        // the ones of its projects under x-k8s.io.
        self.group.is_empty() || (self.group.ends_with(".k8s.io") && !self.group.ends_with(".x-k8s.io"))
    }
}

#[cfg(test)]
impl Resource {
    /// A resource of a CRD, for tests.
    pub(super) const fn of_a_crd(kind: Kind) -> Self {
        Self { kind, group: "multicluster.x-k8s.io", version: "v1beta1", plural: "serviceexports" }
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
        assert_eq!((of(Kind::Pod).path(), of(Kind::Pod).name()), ("/api/v1/pods".into(), "pods".into()));
        let slices = of(Kind::EndpointSlice);
        assert_eq!(slices.path(), "/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(slices.name(), "endpointslices.discovery.k8s.io");
        assert!(ALL.iter().all(Resource::comes_with_kubernetes));
        assert!(!Resource::of_a_crd(Kind::Service).comes_with_kubernetes());
    }
}
