//! ClusterPeering: that this cluster is to be joined with another one, and how that begins.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::condition::Condition;

/// That this cluster is joined with the one that the object is named after. Deleting it parts them.
///
/// With neither `token` nor `declared` it holds a membership that the other side or meshctl begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "mesh.isthmus.io",
    version = "v1alpha1",
    kind = "ClusterPeering",
    doc = "A cluster that this one is one mesh with. The object has the name of that cluster.",
    plural = "clusterpeerings",
    singular = "clusterpeering",
    shortname = "peering",
    category = "isthmus",
    status = "ClusterPeeringStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Id","type":"integer","jsonPath":".status.id","description":"The other cluster's number"}"#,
    printcolumn = r#"{"name":"Joined","type":"string","jsonPath":".status.conditions[?(@.type=='Joined')].status"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state","description":"Of the session with it"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([
    {"rule": "!(has(self.token) && has(self.declared))", "message": "give token or declared, and not both: a token carries all that is declared"},
])))]
pub struct ClusterPeeringSpec {
    /// A join token of the other cluster (`meshctl token create --peer`), for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSource>,
    /// What people wrote down of the other cluster, without a token. The other side declares this cluster in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
    /// How packets to it are to be protected: what both clusters run with. Absent: whatever that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// How packets get to it. This version has one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<Datapath>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSource {
    /// The Secret that holds it.
    pub secret_ref: SecretRef,
}

/// A key of a Secret in the namespace of mesh-apiserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Of the Secret, in the namespace of mesh-apiserver.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
    /// Of the value in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub key: String,
}

/// Who the other cluster is, where it is, and by which CAs it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([
    {"rule": "self.id == oldSelf.id", "message": "id cannot change, since identities are built on it: delete the ClusterPeering and make it anew"},
])))]
pub struct Declared {
    /// Its number in the mesh.
    #[schemars(range(min = 1, max = 511))]
    pub id: u32,
    /// Where its etcd API is reached: HOST:PORT.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 261), regex(pattern = "^[A-Za-z0-9.:\\[\\]-]+:[0-9]{1,5}$"))
    )]
    pub endpoints: Vec<String>,
    /// Prefixes of its pods.
    #[serde(rename = "podCIDRs")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)), extend("x-kubernetes-validations" = prefixes("podCIDRs")))]
    pub pod_cidrs: Vec<String>,
    /// Prefixes of its nodes.
    #[serde(rename = "nodeCIDRs")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 43)), extend("x-kubernetes-validations" = prefixes("nodeCIDRs")))]
    pub node_cidrs: Vec<String>,
    /// Prefixes of its Services.
    #[serde(rename = "serviceCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 43)), extend("x-kubernetes-validations" = prefixes("serviceCIDRs")))]
    pub service_cidrs: Vec<String>,
    /// Its CA certificates, PEM: `ca.crt` of its ConfigMap for agents. After a rotation those that it went over to count.
    pub trust_bundle: TrustSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustSource {
    /// The Secret that holds them. No key may be among them.
    pub secret_ref: SecretRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    Wireguard,
    /// In clear.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    Vxlan,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeeringStatus {
    /// The other cluster's number; absent while it is not joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Which cluster of that name it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Of the session: Connecting, Configuring, Syncing, Live, Stale or Withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Accepted: the spec can be used. Joined: both are one mesh. Ready: its Services are used.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = json!(["type"])))]
    pub conditions: Vec<Condition>,
}

fn prefixes(field: &str) -> serde_json::Value {
    json!([{
        "rule": "self.all(p, isCIDR(p) && cidr(p).ip().family() == 4 && cidr(p) == cidr(p).masked())",
        "message": format!("{field}: IPv4 prefixes without host bits, such as 10.2.0.0/16"),
    }])
}

impl From<Encryption> for mesh_types::view::Encryption {
    fn from(choice: Encryption) -> Self {
        match choice {
            Encryption::Wireguard => Self::Wireguard,
            Encryption::None => Self::None,
        }
    }
}
