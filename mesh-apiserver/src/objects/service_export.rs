//! ServiceExport (MCS API, `multicluster.x-k8s.io`): the Service of the same name is offered to the cluster set.

use std::collections::BTreeMap;

use mesh_types::ServiceName;
use serde::Deserialize;

use super::condition::Condition;
use super::meta::null_as_default;
use super::{Meta, condition};

/// Its group; others have kinds of this name that mean something else.
const GROUP: &str = "multicluster.x-k8s.io";
/// Versions of it that are read; they say the same.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Read")]
pub struct ServiceExport {
    pub metadata: Meta,
    /// RFC 3339, by the API server. `None` in a manifest: nobody has created it.
    pub creation_timestamp: Option<String>,
    /// What is told of the Service; its own labels and annotations are not.
    pub exported_labels: BTreeMap<String, String>,
    pub exported_annotations: BTreeMap<String, String>,
    /// Grows with each change of what it asks for; 0 in a manifest.
    pub generation: i64,
    /// What controllers said of it.
    pub conditions: Vec<Condition>,
}

/// As it is written.
#[derive(Deserialize)]
struct Read {
    metadata: DatedMeta,
    #[serde(default, deserialize_with = "null_as_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "null_as_default")]
    status: condition::Status,
}

#[derive(Deserialize)]
struct DatedMeta {
    #[serde(flatten)]
    meta: Meta,
    #[serde(default, rename = "creationTimestamp")]
    creation_timestamp: Option<String>,
    #[serde(default)]
    generation: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, deserialize_with = "null_as_default")]
    exported_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    exported_annotations: BTreeMap<String, String>,
}

impl From<Read> for ServiceExport {
    fn from(read: Read) -> Self {
        Self {
            metadata: read.metadata.meta,
            creation_timestamp: read.metadata.creation_timestamp,
            exported_labels: read.spec.exported_labels,
            exported_annotations: read.spec.exported_annotations,
            generation: read.metadata.generation,
            conditions: read.status.conditions,
        }
    }
}

impl ServiceExport {
    /// The Service that it offers.
    pub fn service(&self) -> ServiceName {
        ServiceName::new(self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    /// Whether an object of this `apiVersion` is one. `None`: it is of another group, and none of the mesh's business.
    ///
    /// # Errors
    /// What is wrong with the version, and what to write.
    pub fn is_version(api_version: &str) -> Option<Result<(), String>> {
        let known = || VERSIONS.map(|version| format!("{GROUP}/{version}")).join(" or ");
        if api_version.is_empty() {
            return Some(Err(format!("`apiVersion` is missing: write {}", known())));
        }
        let version = api_version.strip_prefix(GROUP)?.strip_prefix('/')?;
        let is_known = VERSIONS.contains(&version);
        Some(if is_known { Ok(()) } else { Err(format!("apiVersion {api_version:?} is not known: write {}", known())) })
    }
}
