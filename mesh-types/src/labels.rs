//! Labels with a source, and label sets in Cilium's stable text form (`pkg/labels`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Label that names the cluster in every identity.
pub const POLICY_CLUSTER: &str = "io.cilium.k8s.policy.cluster";
/// Label that names the pod's namespace in every pod identity.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label that names the pod's service account.
pub const POLICY_SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
/// Prefix of the namespace's own labels inside a pod identity.
pub const NAMESPACE_LABELS_PREFIX: &str = "io.cilium.k8s.namespace.labels";

/// One label: `source:key=value`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    pub source: String,
    pub key: String,
    pub value: String,
}

impl Label {
    pub fn k8s(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { source: "k8s".to_owned(), key: key.into(), value: value.into() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.source, self.key, self.value)
    }
}

/// A set of labels, at most one value per (source, key), ordered by key as Cilium orders them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LabelSet(BTreeMap<String, Label>);

/// Why a label text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {0:?} is not of the form source:key=value")]
pub struct Error(pub String);

impl LabelSet {
    pub fn insert(&mut self, label: Label) {
        self.0.insert(label.key.clone(), label);
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|l| l.value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.values()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Cilium's `SortedList`: `source:key=value;` for each label in key order. The value of an identity key.
    pub fn to_sorted_list(&self) -> String {
        let mut out = String::new();
        for label in self.iter() {
            out.push_str(&label.to_string());
            out.push(';');
        }
        out
    }

    /// Reads `to_sorted_list`'s form. Empty segments are ignored; a segment without `:` or `=` is an error.
    pub fn parse_sorted_list(text: &str) -> Result<Self, Error> {
        let mut set = Self::default();
        for part in text.split(';').filter(|p| !p.is_empty()) {
            let (source, rest) = part.split_once(':').ok_or_else(|| Error(part.to_owned()))?;
            let (key, value) = rest.split_once('=').ok_or_else(|| Error(part.to_owned()))?;
            if key.is_empty() {
                return Err(Error(part.to_owned()));
            }
            set.insert(Label { source: source.to_owned(), key: key.to_owned(), value: value.to_owned() });
        }
        Ok(set)
    }
}

impl FromIterator<Label> for LabelSet {
    fn from_iter<T: IntoIterator<Item = Label>>(iter: T) -> Self {
        let mut set = Self::default();
        for label in iter {
            set.insert(label);
        }
        set
    }
}

impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_sorted_list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sorted_list_is_ciliums_text_and_reads_back() {
        let set: LabelSet =
            [Label::k8s(POD_NAMESPACE, "shop"), Label::k8s("app", "cart"), Label::k8s(POLICY_CLUSTER, "east")]
                .into_iter()
                .collect();
        let text = "k8s:app=cart;k8s:io.cilium.k8s.policy.cluster=east;k8s:io.kubernetes.pod.namespace=shop;";
        assert_eq!(set.to_sorted_list(), text);
        assert_eq!(LabelSet::parse_sorted_list(text), Ok(set));
    }

    #[test]
    fn a_segment_without_source_or_value_is_named() {
        assert_eq!(LabelSet::parse_sorted_list("k8s:a=b;nonsense;"), Err(Error("nonsense".to_owned())));
    }
}
