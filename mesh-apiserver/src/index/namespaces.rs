//! Namespaces: their labels are part of their pods' identities.

use std::collections::BTreeMap;

use crate::objects::Namespace;

#[derive(Default)]
pub(super) struct Namespaces {
    labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Namespaces {
    /// True when the labels changed.
    pub(super) fn apply(&mut self, namespace: Namespace) -> bool {
        let meta = namespace.metadata;
        let before = self.labels.insert(meta.name, meta.labels.clone());
        before != Some(meta.labels)
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.labels.remove(name);
    }

    /// `None` for a namespace that no object describes.
    pub(super) fn labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.labels.get(name)
    }
}
