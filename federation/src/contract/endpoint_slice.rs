//! A slice of a global service's backends: protobuf in one zstd frame (Cilium `pkg/clustermesh/types/endpointslice`, from 1.20).
//!
//! Owns the messages with their field numbers, and the limits under which bytes of a peer are read; what a slice means in
//! the mesh's words is in `endpoint_slice/words.rs`. It must never hold more of a peer's value in memory than the limits
//! say: a few bytes can unpack to gigabytes, and two bytes of a message can stand for a whole endpoint.

use std::collections::BTreeMap;

use mesh_types::ServiceName;
use prost::Message;
use serde::Serialize;

use super::Error;

mod frame;
mod words;

pub use words::SliceName;

/// Label that names the Service a slice belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Most endpoints of a slice, as Kubernetes' API has it.
pub const MAX_ENDPOINTS: usize = 1000;
/// Most ports of a slice, as Kubernetes' API has it.
pub const MAX_PORTS: usize = 20_000;
/// Most ports of all endpoints together: every backend has its own copy of the slice's ports.
pub const MAX_BACKEND_PORTS: usize = 100_000;
/// Most bytes of the name of a Service or of a port, as Kubernetes has it: both are copied for every backend.
pub const MAX_NAME: usize = 63;

const KIND: &str = "endpoint-slice";

/// `cilium/state/endpointslices/v1/<cluster>/<namespace>/<slice>`. Not-ready endpoints are part of it.
///
/// Fields that are no `Option` are those that Go always writes, empty ones too, and so does [`Self::encode`]. Serialised it
/// is the JSON view that Cilium's tools print; the store never holds that.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceValue {
    #[prost(string, required, tag = "1")]
    pub cluster: String,
    #[prost(uint32, required, tag = "2")]
    #[serde(rename = "clusterID")]
    pub cluster_id: u32,
    #[prost(string, required, tag = "3")]
    pub namespace: String,
    /// The slice's own name; its Service is named by the label [`SERVICE_NAME`].
    #[prost(string, required, tag = "4")]
    pub name: String,
    #[prost(btree_map = "string, string", tag = "5")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "6")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// `IPv4` or `IPv6`, of all endpoints.
    #[prost(string, required, tag = "7")]
    pub address_type: String,
    #[prost(message, repeated, tag = "8")]
    pub endpoints: Vec<Endpoint>,
    /// Served by every endpoint.
    #[prost(message, repeated, tag = "9")]
    pub ports: Vec<EndpointPort>,
}

/// One pod behind the Service. Kubernetes' field numbers; `deprecatedTopology` (5) is read over.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The first is the endpoint's; Kubernetes gives further ones no meaning.
    #[prost(string, repeated, tag = "1")]
    pub addresses: Vec<String>,
    #[prost(message, required, tag = "2")]
    pub conditions: Conditions,
    #[prost(string, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[prost(string, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[prost(string, optional, tag = "7")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<Hints>,
}

/// What the source's kubelet says of an endpoint. `None` is "not said", which is neither true nor false.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct Conditions {
    #[prost(bool, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

/// Who should use an endpoint.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub for_zones: Vec<ForZone>,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct ForZone {
    #[prost(string, required, tag = "1")]
    pub name: String,
}

/// A port with its name; an unnamed one has the name `""`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    #[prost(string, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP` where it is not said.
    #[prost(string, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// 1..=65535; where it is not said, all ports.
    #[prost(int32, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    #[prost(string, optional, tag = "4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// How many endpoints and ports a message has, learned without making them: lists of nothing take no memory.
#[derive(Clone, PartialEq, Message)]
struct Outline {
    #[prost(message, repeated, tag = "8")]
    endpoints: Vec<Nothing>,
    #[prost(message, repeated, tag = "9")]
    ports: Vec<Nothing>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Nothing {}

impl EndpointSliceValue {
    /// The same bytes for the same value: maps are written in the order of their keys.
    pub fn encode(&self) -> Vec<u8> {
        frame::pack(&self.encode_to_vec())
    }

    /// Refuses what is not one frame of one message within the limits, and names the field that cannot be read.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let message = frame::unpack(value)?;
        let mut outline = Outline::default();
        // It breaks off where the message itself does, which then says at what field.
        drop(outline.merge(message.as_slice()));
        let (endpoints, ports) = (outline.endpoints.len(), outline.ports.len());
        for (what, count, limit) in [
            ("endpoints", endpoints, MAX_ENDPOINTS),
            ("ports", ports, MAX_PORTS),
            ("ports of all endpoints together", endpoints.saturating_mul(ports), MAX_BACKEND_PORTS),
        ] {
            if count > limit {
                return Err(Error::Size { what, limit });
            }
        }
        <Self as Message>::decode(message.as_slice()).map_err(|source| Error::Protobuf { kind: KIND, source })
    }

    /// The Service that it is a part of; `None` where the label is missing or is no name.
    pub fn service(&self) -> Option<ServiceName> {
        let name = self.labels.get(SERVICE_NAME).filter(|name| (1..=MAX_NAME).contains(&name.len()))?;
        Some(ServiceName::new(self.namespace.as_str(), name.as_str()))
    }
}

#[cfg(test)]
mod tests;
