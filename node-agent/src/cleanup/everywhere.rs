//! Waits until every node of a Kubernetes cluster is clean: until each pod of the DaemonSet that runs the cleanup is ready.
//! What a chart's hook runs before it says that the mesh is gone.
//!
//! Only reads, two objects, with the rights of its own ServiceAccount; knows no other part of Kubernetes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use mesh_runtime::{ErrorChain, Shutdown};
use serde_json::Value;
use tonic::body::Body;
use tonic::codegen::http::{Request, StatusCode, header};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::ServiceExt as _;

const LOOK_EVERY: Duration = Duration::from_secs(1);
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
const REMIND_EVERY: Duration = Duration::from_secs(15);

/// Where to look, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    pub namespace: String,
    pub daemonset: String,
    /// `host:port` of the Kubernetes API.
    pub api: String,
    /// The folder of a pod's ServiceAccount: `token` and `ca.crt`.
    pub account: PathBuf,
    pub patience: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the Kubernetes API at {address} cannot be asked")]
    Address { address: String, source: tonic::transport::Error },
    #[error("no answer to {path}")]
    Unanswered {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{path} was answered with {status}: {message}")]
    Refused { path: String, status: StatusCode, message: String },
    #[error("{path} was answered with something that is no object")]
    Answer { path: String, source: serde_json::Error },
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
    #[error("stopped before all nodes were clean")]
    Stopped,
    #[error(
        "after {waited:?} these nodes are not known to be clean: {}. `kubectl logs` of their pods of {daemonset} says why; \
         run the cleanup again when they are back (docs/guide/uninstall.md), or on each of them `node-agent cleanup --state DIR`",
        .nodes.join(", ")
    )]
    Late { waited: Duration, daemonset: String, nodes: Vec<String> },
    #[error("the state of the DaemonSet {daemonset} is not known after {waited:?}")]
    Unknown { waited: Duration, daemonset: String, source: Box<Error> },
}

/// How far the DaemonSet is.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    clean: u64,
    nodes: u64,
    /// What is counted belongs to the DaemonSet as it is now.
    is_current: bool,
}

impl Progress {
    fn of(daemonset: &Value) -> Self {
        let number = |pointer: &str| daemonset.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let observed = daemonset.pointer("/status/observedGeneration").and_then(Value::as_u64);
        Self {
            clean: number("/status/numberReady"),
            nodes: number("/status/desiredNumberScheduled"),
            is_current: observed.is_some_and(|observed| observed >= number("/metadata/generation")),
        }
    }

    fn is_done(&self) -> bool {
        self.is_current && self.clean >= self.nodes
    }
}

pub async fn run(options: &Options) -> Result<(), Error> {
    let shutdown = Shutdown::new();
    let _signals = shutdown.listen_to_signals().map_err(Error::Signals)?;
    let Options { namespace, daemonset, patience, .. } = options;
    let api = Api::connect(options).await?;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{daemonset}");
    let started = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        let progress = api.get(&path).await.map(|object| Progress::of(&object));
        let is_late = started.elapsed() >= *patience;
        match progress {
            Ok(progress) if progress.is_done() => {
                tracing::info!(nodes = progress.nodes, "all nodes are clean");
                return Ok(());
            }
            Ok(_) if is_late => {
                let pods = api.get(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
                let nodes = unready_nodes(&pods, daemonset);
                return Err(Error::Late { waited: *patience, daemonset: daemonset.clone(), nodes });
            }
            Err(source) if is_late => {
                let source = Box::new(source);
                return Err(Error::Unknown { waited: *patience, daemonset: daemonset.clone(), source });
            }
            seen if said.is_none_or(|last| last.elapsed() >= REMIND_EVERY) => {
                match seen {
                    Ok(Progress { clean, nodes, .. }) => tracing::info!(clean, nodes, "waiting for nodes to be clean"),
                    Err(error) => tracing::warn!(error = %ErrorChain(&error), "asking again"),
                }
                said = Some(Instant::now());
            }
            _ => {}
        }
        if shutdown.unless_requested(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return Err(Error::Stopped);
        }
    }
}

/// Nodes whose pod of this DaemonSet is not ready, sorted; a pod that has no node yet is named itself.
fn unready_nodes(pods: &Value, daemonset: &str) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let is_own = owners.into_iter().any(|o| o["kind"] == "DaemonSet" && o["name"] == daemonset);
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if is_own && !is_ready {
            let node = pod["spec"]["nodeName"].as_str().or(pod["metadata"]["name"].as_str());
            nodes.push(node.unwrap_or_default().to_owned());
        }
    }
    nodes.sort();
    if nodes.is_empty() {
        nodes.push("nodes without a pod of it: `kubectl describe` shows why".to_owned());
    }
    nodes
}

/// The Kubernetes API, as a pod sees it.
struct Api {
    channel: Channel,
    token: PathBuf,
}

impl Api {
    async fn connect(options: &Options) -> Result<Self, Error> {
        let ca = read(&options.account.join("ca.crt")).await?;
        let address = options.api.clone();
        let unusable = |source| Error::Address { address: address.clone(), source };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(unusable)?;
        let endpoint = endpoint.connect_timeout(REQUEST_PATIENCE).timeout(REQUEST_PATIENCE);
        let channel = endpoint.tls_config(tls).map_err(unusable)?.connect_lazy();
        Ok(Self { channel, token: options.account.join("token") })
    }

    async fn get(&self, path: &str) -> Result<Value, Error> {
        // Read anew: the kubelet replaces it before it expires.
        let token = read(&self.token).await?;
        let mut authorization = header::HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|source| Error::Unanswered { path: path.to_owned(), source: source.into() })?;
        authorization.set_sensitive(true);
        let request = Request::get(path).header(header::AUTHORIZATION, authorization).body(Body::empty());
        let unanswered = |source: Box<dyn std::error::Error + Send + Sync>| {
            let path = path.to_owned();
            Error::Unanswered { path, source }
        };
        let request = request.map_err(|error| unanswered(error.into()))?;
        let response = self.channel.clone().oneshot(request).await.map_err(|error| unanswered(error.into()))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| unanswered(error.into()))?.to_bytes();
        let object = serde_json::from_slice::<Value>(&body);
        if !status.is_success() {
            let message = object.ok().and_then(|status| status["message"].as_str().map(str::to_owned));
            return Err(Error::Refused { path: path.to_owned(), status, message: message.unwrap_or_default() });
        }
        object.map_err(|source| Error::Answer { path: path.to_owned(), source })
    }
}

async fn read(path: &Path) -> Result<String, Error> {
    let text = tokio::fs::read_to_string(path).await;
    text.map_err(|source| Error::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_of_a_former_daemonset_do_not_count() {
        let counts = |observed: Option<u64>, ready: u64, nodes: u64| {
            let status =
                json!({ "observedGeneration": observed, "numberReady": ready, "desiredNumberScheduled": nodes });
            Progress::of(&json!({ "metadata": { "generation": 2 }, "status": status }))
        };
        assert!(counts(Some(2), 3, 3).is_done());
        // A cluster whose nodes are all gone has nothing to clean.
        assert!(counts(Some(2), 0, 0).is_done());
        assert!(!counts(Some(2), 2, 3).is_done());
        assert!(!counts(Some(1), 3, 3).is_done());
        assert!(!counts(None, 0, 0).is_done());
        assert!(!Progress::of(&json!({ "metadata": { "generation": 1 } })).is_done());
    }

    #[test]
    fn nodes_that_are_late_are_named() {
        let pod = |node: Option<&str>, owner: &str, ready: &str| {
            json!({
                "metadata": { "name": "p", "ownerReferences": [{ "kind": "DaemonSet", "name": owner }] },
                "spec": { "nodeName": node },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            })
        };
        let pods = [
            pod(Some("n3"), "cleanup", "False"),
            pod(Some("n2"), "cleanup", "True"),
            pod(Some("n1"), "cleanup", "False"),
            pod(Some("n4"), "other", "False"),
            pod(None, "cleanup", "False"),
        ];
        assert_eq!(unready_nodes(&json!({ "items": pods }), "cleanup"), ["n1", "n3", "p"]);
        assert_eq!(unready_nodes(&json!({ "items": [] }), "cleanup").len(), 1);
    }
}
