//! MeshConfig: settings of this cluster's part of the mesh that change while it runs.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::condition::Condition;
use super::peering::Encryption;

/// The name of the one object of its kind.
pub const SINGLETON: &str = "default";

/// Settings of this cluster's part of the mesh. What is absent is as mesh-apiserver was started with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "mesh.isthmus.io",
    version = "v1alpha1",
    kind = "MeshConfig",
    doc = "Settings of this cluster's part of the mesh. What is absent is as mesh-apiserver was started with it. There is one, named `default`.",
    plural = "meshconfigs",
    singular = "meshconfig",
    category = "isthmus",
    status = "MeshConfigStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Stale-After","type":"string","jsonPath":".status.staleAfter"}"#,
    printcolumn = r#"{"name":"Withdraw-After","type":"string","jsonPath":".status.withdrawAfter"}"#,
    printcolumn = r#"{"name":"Applied","type":"string","jsonPath":".status.conditions[?(@.type=='Applied')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Applied')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([
    {"rule": "!has(self.staleAfter) || !has(self.withdrawAfter) || duration(self.staleAfter) <= duration(self.withdrawAfter)", "message": "withdrawAfter is shorter than staleAfter: a cluster is stale first"},
])))]
pub struct MeshConfigSpec {
    /// A cluster that is silent for this long is shown as stale and still used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION, "maxLength" = 10))]
    pub stale_after: Option<String>,
    /// A cluster that is silent for this long is no longer used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION, "maxLength" = 10))]
    pub withdraw_after: Option<String>,
    /// How long the mirrored facts of a parted cluster stay for this cluster's own Cilium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION, "maxLength" = 10))]
    pub disconnect_grace: Option<String>,
    /// Cannot change while the mesh runs; the condition says so where it is another than the cluster runs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// Cannot change at all; the condition says so where it is another than the cluster runs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 255, max = 511))]
    pub max_connected_clusters: Option<u32>,
}

/// What counts now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshConfigStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect_grace: Option<String>,
    /// Applied: every field of the spec counts.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = json!(["type"])))]
    pub conditions: Vec<Condition>,
}

/// What both CEL and this server read as the same time.
const DURATION: &str = "^[1-9][0-9]*(ms|s|m)$";
