//! A Service that a cluster offers to the cluster set: Cilium's `MCSAPIServiceSpec` as JSON (`pkg/clustermesh/mcsapi/types`).
//!
//! Owns the form of the value and what a reader refuses of it; how exports of several clusters become one import is not
//! known here. Fields stand in the order in which Cilium 1.20 writes them.
//!
//! Cilium 1.18 to 1.20 write labels and annotations a second time, as `Labels` and `Annotations`, for peers that are older
//! still. Here they are written once, as `labels` and `annotations`: every version from 1.18 on reads these, and later ones
//! dropped the rest. Read are both: the capitalised ones count where the others are missing or empty, as in Cilium.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mesh_types::{Protocol, ServiceName};
use serde::{Deserialize, Serialize};

use super::Error;
use super::lenient::{null_is_default, object};

const KIND: &str = "service-export";

/// `cilium/state/serviceexports/v1/<cluster>/<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceExportValue {
    #[serde(deserialize_with = "null_is_default")]
    pub cluster: String,
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, to the second. Where exports disagree, the oldest is right: without it a value is refused.
    pub export_creation_timestamp: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<ExportedPort>,
    /// [`CLUSTER_SET_IP`] or [`HEADLESS`].
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// `None` or `ClientIP`. An empty one is read as `None`, but must not be written: Cilium's readers refuse it.
    #[serde(deserialize_with = "null_is_default")]
    pub session_affinity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// `IPv4`, `IPv6`, each at most once. Empty from versions that do not say it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ip_families: Vec<String>,
    /// `Cluster` or `Local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// A Service with an address of its own in every importing cluster.
pub const CLUSTER_SET_IP: &str = "ClusterSetIP";
/// A Service that is only its backends.
pub const HEADLESS: &str = "Headless";

/// One port of the Service (MCS API `v1beta1`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExportedPort {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub name: String,
    /// Kubernetes' word; empty is `TCP`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// 1..=65535.
    #[serde(deserialize_with = "null_is_default")]
    pub port: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP", skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<ClientIp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIp {
    /// How long a client keeps its backend: 1..=86400 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
}

impl SessionAffinityConfig {
    pub fn client_ip_timeout(seconds: i32) -> Self {
        Self { client_ip: Some(ClientIp { timeout_seconds: Some(seconds) }) }
    }
}

/// The fields that Cilium 1.18 to 1.20 write a second time.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Capitalised {
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

impl ServiceExportValue {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps of strings always encode")
    }

    /// Refuses what Cilium refuses, and names the field: a word or a number that has no meaning, or no creation time.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut export: Self = object(KIND, value)?;
        let older: Capitalised = object(KIND, value)?;
        if export.labels.is_empty() {
            export.labels = older.labels;
        }
        if export.annotations.is_empty() {
            export.annotations = older.annotations;
        }
        export.check()?;
        Ok(export)
    }

    pub fn service_name(&self) -> ServiceName {
        ServiceName::new(self.namespace.as_str(), self.name.as_str())
    }

    /// When the export was made, by the clock of its cluster.
    pub fn created(&self) -> Result<Timestamp, Error> {
        let text = self.export_creation_timestamp.as_deref().unwrap_or_default();
        text.parse().map_err(|_named_below| Error::field("exportCreationTimestamp", text, "a time of RFC 3339"))
    }

    fn check(&self) -> Result<(), Error> {
        self.created()?;
        self.check_words()
    }

    /// The same but for the creation time: of a value that is to be written.
    pub fn check_words(&self) -> Result<(), Error> {
        one_of("type", &self.kind, &[CLUSTER_SET_IP, HEADLESS], "ClusterSetIP or Headless")?;
        one_of("sessionAffinity", &self.session_affinity, &["", "None", "ClientIP"], "None or ClientIP")?;
        if let Some(policy) = &self.internal_traffic_policy {
            one_of("internalTrafficPolicy", policy, &["Cluster", "Local"], "Cluster or Local")?;
        }
        if let Some(how) = &self.traffic_distribution {
            let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
            one_of("trafficDistribution", how, &known, "PreferClose, PreferSameZone or PreferSameNode")?;
        }
        for (place, family) in self.ip_families.iter().enumerate() {
            one_of("ipFamilies", family, &["IPv4", "IPv6"], "IPv4 or IPv6")?;
            if self.ip_families[..place].contains(family) {
                return Err(Error::field("ipFamilies", family, "said once"));
            }
        }
        let client_ip = self.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        if let Some(seconds) = client_ip.and_then(|config| config.timeout_seconds)
            && !(1..=86_400).contains(&seconds)
        {
            return Err(Error::field("timeoutSeconds", &seconds, "1 to 86400 seconds"));
        }
        self.ports.iter().try_for_each(ExportedPort::check)
    }
}

impl ExportedPort {
    fn check(&self) -> Result<(), Error> {
        if !(1..=i32::from(u16::MAX)).contains(&self.port) {
            return Err(Error::field("port", &self.port, "a port number, 1 to 65535"));
        }
        if self.protocol.is_empty() || self.protocol.parse::<Protocol>().is_ok() {
            Ok(())
        } else {
            Err(Error::field("protocol", &self.protocol, "TCP, UDP or SCTP"))
        }
    }
}

fn one_of(field: &'static str, value: &str, known: &[&str], want: &'static str) -> Result<(), Error> {
    if known.contains(&value) { Ok(()) } else { Err(Error::field(field, value, want)) }
}

#[cfg(test)]
mod tests;
