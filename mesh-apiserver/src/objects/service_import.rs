//! ServiceImport (MCS API, `multicluster.x-k8s.io`): a Service of the cluster set as one cluster has it. This server makes
//! them; it reads them to see what became of those it made.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::meta::null_as_default;
use super::{Condition, Meta};

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Read")]
pub struct ServiceImport {
    pub metadata: Meta,
    /// All of them.
    pub annotations: BTreeMap<String, String>,
    pub generation: i64,
    pub spec: Value,
    /// The exporting clusters that its status names.
    pub clusters: Vec<String>,
    pub conditions: Vec<Condition>,
}

/// As it is written. Metadata is read twice: the usual reader drops annotations of others.
#[derive(Deserialize)]
struct Read {
    metadata: Value,
    #[serde(default)]
    spec: Value,
    #[serde(default, deserialize_with = "null_as_default")]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "null_as_default")]
    clusters: Vec<Cluster>,
    #[serde(deserialize_with = "null_as_default")]
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster {
    cluster: String,
}

impl TryFrom<Read> for ServiceImport {
    type Error = serde_json::Error;

    fn try_from(read: Read) -> Result<Self, serde_json::Error> {
        let annotations = read.metadata.get("annotations").cloned().unwrap_or_default();
        let annotations: Option<BTreeMap<String, String>> = serde_json::from_value(annotations)?;
        Ok(Self {
            annotations: annotations.unwrap_or_default(),
            generation: read.metadata.get("generation").and_then(Value::as_i64).unwrap_or_default(),
            metadata: serde_json::from_value(read.metadata)?,
            spec: read.spec,
            clusters: read.status.clusters.into_iter().map(|cluster| cluster.cluster).collect(),
            conditions: read.status.conditions,
        })
    }
}
