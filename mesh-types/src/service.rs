//! Global services: the annotations that make them, their frontends and backends.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::preference::{self, Preference};
use crate::{ClusterName, NamedPort, NodeName};

/// `namespace/name`. Services of different clusters merge when these are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl ServiceName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a Service's annotations say about the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GlobalSettings {
    /// Remote backends are used here, and local ones are exported when `shared`.
    pub global: bool,
    /// Local backends are exported. Follows `global` unless said otherwise.
    pub shared: bool,
    pub prefers: Preference,
}

/// An annotation whose value is not understood. The object is kept with the default for that annotation's effect off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Preference(#[from] preference::Error),
    #[error("annotation {annotation}: {value:?} is not a boolean: use \"true\" or \"false\"")]
    Boolean { annotation: String, value: String },
}

/// Own name first, then Cilium's current name, then Cilium's old one: the first that is present wins.
pub const GLOBAL: [&str; 3] = ["mesh.isthmus.io/global", "service.cilium.io/global", "io.cilium/global-service"];
/// See [`GLOBAL`].
pub const SHARED: [&str; 3] = ["mesh.isthmus.io/shared", "service.cilium.io/shared", "io.cilium/shared-service"];
impl GlobalSettings {
    /// Reads the annotations. A value that is not understood is an error that names it: guessing would send traffic astray.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        let global = boolean(annotations, &GLOBAL)?.unwrap_or(false);
        let shared = boolean(annotations, &SHARED)?.unwrap_or(global);
        let prefers = Preference::from_annotations(annotations)?;
        Ok(Self { global, shared: global && shared, prefers })
    }
}

fn first<'a>(annotations: &'a BTreeMap<String, String>, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|n| annotations.get(*n).map(|v| (*n, v.as_str())))
}

fn boolean(annotations: &BTreeMap<String, String>, names: &[&'static str]) -> Result<Option<bool>, Error> {
    match first(annotations, names) {
        None => Ok(None),
        Some((annotation, value)) => match value.to_ascii_lowercase().as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(Error::Boolean { annotation: annotation.to_owned(), value: value.to_owned() }),
        },
    }
}

/// A Service's virtual address and its ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frontend {
    pub address: IpAddr,
    pub ports: Vec<NamedPort>,
}

/// Whether new connections may go to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    #[default]
    Active,
    /// Still serves what it has; new connections only when there is no active one.
    Terminating,
    /// Known to fail its readiness check.
    NotReady,
}

impl BackendState {
    /// Kubernetes' meaning of an endpoint's three conditions (discovery/v1 `EndpointConditions`). What is not said of `ready`
    /// is "yes", of `serving` the same as `ready`, of `terminating` "no".
    pub fn of_conditions(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Self {
        let ready = ready.unwrap_or(true);
        match (ready, serving.unwrap_or(ready), terminating.unwrap_or(false)) {
            (_, true, true) => Self::Terminating,
            (true, _, false) => Self::Active,
            _ => Self::NotReady,
        }
    }
}

/// One pod address behind a Service, with the ports it serves by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backend {
    pub cluster: ClusterName,
    pub address: IpAddr,
    pub ports: Vec<NamedPort>,
    pub state: BackendState,
    /// The node it runs on, where the source says so.
    pub node: Option<NodeName>,
    pub zone: Option<String>,
    /// Relative share of new connections, 1..=65535; 1 unless weights are set.
    pub weight: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn shared_follows_global_unless_said_otherwise() {
        let on = GlobalSettings::from_annotations(&annotations(&[("service.cilium.io/global", "true")])).unwrap();
        assert!(on.global && on.shared);
        let private = annotations(&[("io.cilium/global-service", "true"), ("mesh.isthmus.io/shared", "false")]);
        let private = GlobalSettings::from_annotations(&private).unwrap();
        assert!(private.global && !private.shared);
        let only_shared =
            GlobalSettings::from_annotations(&annotations(&[("service.cilium.io/shared", "true")])).unwrap();
        assert!(!only_shared.global && !only_shared.shared);
    }

    #[test]
    fn conditions_map_to_states_as_kubernetes_defines_them() {
        let state = BackendState::of_conditions;
        assert_eq!(state(None, None, None), BackendState::Active);
        assert_eq!(state(Some(false), Some(false), None), BackendState::NotReady);
        assert_eq!(state(Some(false), Some(true), Some(true)), BackendState::Terminating);
        assert_eq!(state(Some(false), Some(false), Some(true)), BackendState::NotReady);
        assert_eq!(state(Some(true), None, Some(false)), BackendState::Active);
    }
}
