//! A cluster's configuration: its number and what it supports (Cilium `pkg/clustermesh/types`).

use mesh_types::{ClusterId, IdentityLayout};
use serde::{Deserialize, Serialize};

use super::Error;
use super::lenient::{is_false, is_zero, null_is_default};

/// `cilium/cluster-config/<cluster>`. Every field is left out when empty, as Cilium does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterConfig {
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub id: u32,
    #[serde(deserialize_with = "null_is_default")]
    pub capabilities: Capabilities,
}

/// What the cluster's exporter does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// It writes canaries: a reader waits for each before it lists.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub synced_canaries: bool,
    /// Its facts are under `cache/`, so it is a mirror of the cluster and not the cluster.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub cached: bool,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub max_connected_clusters: u32,
    /// Absent: the version does not know of service exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_exports_enabled: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub endpoint_slices_export_mode: String,
}

const EXPORT_MODES: [&str; 3] = ["", "services-and-endpointslices", "endpointslices-only"];

impl ClusterConfig {
    /// What an Isthmus cluster says of itself.
    pub fn own(id: ClusterId, layout: IdentityLayout) -> Self {
        Self {
            id: id.get(),
            capabilities: Capabilities {
                synced_canaries: true,
                max_connected_clusters: layout.max_clusters(),
                ..Capabilities::default()
            },
        }
    }

    /// The mirrored copy: the same, read from `cache/`.
    #[must_use]
    pub fn into_cached(mut self) -> Self {
        self.capabilities.cached = true;
        self.capabilities.synced_canaries = true;
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, booleans and strings always encode")
    }

    /// Refuses what Cilium refuses: an export mode that is not known.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let config: Self =
            serde_json::from_slice(value).map_err(|source| Error::Json { kind: "cluster-config", source })?;
        let mode = &config.capabilities.endpoint_slices_export_mode;
        if EXPORT_MODES.contains(&mode.as_str()) {
            Ok(config)
        } else {
            Err(Error::field("endpointSlicesExportMode", mode, "a mode that this version knows"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_configuration_is_ciliums_text() {
        let own = ClusterConfig::own(ClusterId::new(7).unwrap(), IdentityLayout::Clusters255);
        let text = br#"{"id":7,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255}}"#;
        assert_eq!(String::from_utf8(own.encode()).unwrap(), String::from_utf8_lossy(text));
        let cached = br#"{"id":7,"capabilities":{"syncedCanaries":true,"cached":true,"maxConnectedClusters":255}}"#;
        assert_eq!(own.into_cached().encode(), cached);
    }

    #[test]
    fn unknown_fields_are_read_over_and_an_unknown_export_mode_is_refused() {
        let text = br#"{"id":3,"new":1,"capabilities":{"serviceExportsEnabled":false,"later":{}}}"#;
        let config = ClusterConfig::decode(text).unwrap();
        assert_eq!((config.id, config.capabilities.service_exports_enabled), (3, Some(false)));
        let text = br#"{"id":3,"capabilities":{"endpointSlicesExportMode":"both"}}"#;
        assert!(ClusterConfig::decode(text).unwrap_err().to_string().contains("\"both\""));
    }
}
