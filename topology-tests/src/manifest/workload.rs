//! Deployments and StatefulSets, as far as the lab plays them: replicas of a pod template.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Workload {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub replicas: u32,
    pub template: PodTemplate,
}

#[derive(Debug, Clone, Default)]
pub struct PodTemplate {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub service_account: String,
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    pub image: String,
    pub ports: Vec<NamedPort>,
    pub readiness_probe: Option<Probe>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedPort {
    #[serde(default)]
    pub name: String,
    pub container_port: u16,
    #[serde(default = "tcp")]
    pub protocol: String,
}

/// `readinessProbe`, in the three forms that reach over the network. Any other form leaves all three empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    pub http_get: Option<HttpGet>,
    pub grpc: Option<Grpc>,
    pub tcp_socket: Option<TcpSocket>,
    pub failure_threshold: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    #[serde(default)]
    pub path: String,
    pub port: PortRef,
    #[serde(default)]
    pub http_headers: Vec<HttpHeader>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HttpHeader {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Grpc {
    pub port: u16,
    #[serde(default)]
    pub service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TcpSocket {
    pub port: PortRef,
}

/// A port by number or by the name that a container gave it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    Number(u16),
    Name(String),
}

impl Workload {
    pub(super) fn read(object: &Value) -> Result<Self, serde_json::Error> {
        let spec = &object["spec"];
        let template = &spec["template"];
        let strings = |value: &Value| -> Result<BTreeMap<String, String>, serde_json::Error> {
            if value.is_null() { Ok(BTreeMap::new()) } else { serde_json::from_value(value.clone()) }
        };
        Ok(Self {
            kind: object["kind"].as_str().unwrap_or_default().to_owned(),
            namespace: super::namespace_of(object).to_owned(),
            name: super::name_of(object).to_owned(),
            replicas: serde_json::from_value::<Option<u32>>(spec["replicas"].clone())?.unwrap_or(1),
            template: PodTemplate {
                labels: strings(&template["metadata"]["labels"])?,
                annotations: strings(&template["metadata"]["annotations"])?,
                service_account: template["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned(),
                containers: serde_json::from_value(template["spec"]["containers"].clone())?,
            },
        })
    }
}

impl PodTemplate {
    /// The ports of all containers.
    pub fn ports(&self) -> impl Iterator<Item = &NamedPort> {
        self.containers.iter().flat_map(|container| &container.ports)
    }

    /// The port that a reference means here, if any.
    pub fn resolve(&self, port: &PortRef, protocol: &str) -> Option<u16> {
        match port {
            PortRef::Number(number) => Some(*number),
            PortRef::Name(name) => self
                .ports()
                .find(|known| known.name == *name && known.protocol == protocol)
                .map(|known| known.container_port),
        }
    }
}

fn tcp() -> String {
    "TCP".into()
}
