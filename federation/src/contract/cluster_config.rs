//! A cluster's configuration: its number and what it supports (Cilium `pkg/clustermesh/types`).

use mesh_types::{ClusterId, IdentityLayout};
use serde::{Deserialize, Serialize};

use super::lenient::{is_false, is_zero, null_is_default, object};
use super::{Error, Resource};

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
    /// How an identity's bits are split: 255 or 511 clusters. 0: not said.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub max_connected_clusters: u32,
    /// Absent: the version does not know of service exports. `false`: it does, and has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_exports_enabled: Option<bool>,
    /// One of [`SERVICES_ONLY`], [`SERVICES_AND_ENDPOINT_SLICES`], [`ENDPOINT_SLICES_ONLY`].
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub endpoint_slices_export_mode: String,
}

/// Backends are in the services' values.
pub const SERVICES_ONLY: &str = "";
/// They are in both.
pub const SERVICES_AND_ENDPOINT_SLICES: &str = "services-and-endpointslices";
/// They are in slices; no service has a value.
pub const ENDPOINT_SLICES_ONLY: &str = "endpointslices-only";

const EXPORT_MODES: [&str; 3] = [SERVICES_ONLY, SERVICES_AND_ENDPOINT_SLICES, ENDPOINT_SLICES_ONLY];

impl Capabilities {
    /// Whether the cluster's exporter writes this kind. A reader waits for no canary of one that it does not write.
    pub fn exports(&self, resource: Resource) -> bool {
        let mode = self.endpoint_slices_export_mode.as_str();
        match resource {
            Resource::Identities | Resource::Nodes | Resource::Ip => true,
            Resource::Services => mode != ENDPOINT_SLICES_ONLY,
            Resource::EndpointSlices => mode != SERVICES_ONLY,
            Resource::ServiceExports => self.service_exports_enabled.is_some(),
        }
    }

    /// The kinds that it writes, in the order of [`Resource::ALL`].
    pub fn exported(&self) -> impl Iterator<Item = Resource> + '_ {
        Resource::ALL.into_iter().filter(|resource| self.exports(*resource))
    }
}

impl ClusterConfig {
    /// What an Isthmus cluster says of itself.
    pub fn own(id: ClusterId, layout: IdentityLayout) -> Self {
        Self {
            id: id.get(),
            capabilities: Capabilities {
                synced_canaries: true,
                max_connected_clusters: layout.max_clusters(),
                service_exports_enabled: Some(true),
                endpoint_slices_export_mode: SERVICES_AND_ENDPOINT_SLICES.to_owned(),
                cached: false,
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
        let config: Self = object("cluster-config", value)?;
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
        let text = concat!(
            r#"{"id":7,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255,"#,
            r#""serviceExportsEnabled":true,"endpointSlicesExportMode":"services-and-endpointslices"}}"#
        );
        assert_eq!(String::from_utf8(own.encode()).unwrap(), text);
        let cached = text.replace(r#"true,"max"#, r#"true,"cached":true,"max"#).into_bytes();
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

    #[test]
    fn every_capability_is_kept_and_what_is_not_said_stays_unsaid() {
        let all = concat!(
            r#"{"id":7,"capabilities":{"syncedCanaries":true,"cached":true,"maxConnectedClusters":511,"#,
            r#""serviceExportsEnabled":true,"endpointSlicesExportMode":"services-and-endpointslices"}}"#,
        );
        for exports in [r#""serviceExportsEnabled":true,"#, r#""serviceExportsEnabled":false,"#, ""] {
            let text = all.replace(r#""serviceExportsEnabled":true,"#, exports);
            let config = ClusterConfig::decode(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(config.encode()).unwrap(), text);
        }
        let unsaid = ClusterConfig::decode(br#"{"id":null,"capabilities":{"serviceExportsEnabled":null}}"#).unwrap();
        assert_eq!(unsaid.encode(), br#"{"capabilities":{}}"#);
    }

    #[test]
    fn what_a_cluster_exports_follows_from_its_capabilities() {
        let exported = |mode: &str, service_exports_enabled| {
            let endpoint_slices_export_mode = mode.to_owned();
            let capabilities =
                Capabilities { service_exports_enabled, endpoint_slices_export_mode, ..Capabilities::default() };
            let later = [Resource::Services, Resource::ServiceExports, Resource::EndpointSlices];
            assert!(capabilities.exports(Resource::Identities) && capabilities.exports(Resource::Ip));
            later.map(|resource| capabilities.exports(resource))
        };
        assert_eq!(exported(SERVICES_ONLY, None), [true, false, false]);
        assert_eq!(exported(SERVICES_AND_ENDPOINT_SLICES, Some(false)), [true, true, true]);
        assert_eq!(exported(ENDPOINT_SLICES_ONLY, Some(true)), [false, true, true]);
    }

    #[test]
    fn a_configuration_that_is_not_one_is_refused() {
        for text in [
            "",
            "7",
            "[]",
            r#" [7,{"cached":true}]"#,
            r#"{"id":-1}"#,
            r#"{"id":7}}"#,
            r#"{"capabilities":{"cached":"yes"}}"#,
        ] {
            let error = ClusterConfig::decode(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Json { kind: "cluster-config", .. }), "{text}");
        }
    }
}
