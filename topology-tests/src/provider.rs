//! One face for the clusters that a test runs on: the namespace lab, real Kubernetes nodes in namespaces, or kind. What a
//! provider cannot do it refuses by name; none pretends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::kubernetes::cni::Cni;
use crate::kubernetes::kube_proxy::ProxyMode;
use crate::names::LabName;
use crate::topology::Topology;

mod kind;
mod lab;
mod real;

pub use kind::Kind;
pub use lab::NamespaceLab;
pub use real::RealNodes;

/// More do not fit into the plan of addresses.
const MOST_CLUSTERS: usize = 26;
const MOST_NODES: u8 = 200;

/// What to bring up.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of the run: part of the name of everything that it makes.
    pub name: LabName,
    /// Named `cluster-a`, `cluster-b` and so on.
    pub clusters: Vec<ClusterOptions>,
    /// Of each cluster: `a1`, `a2` and so on.
    pub nodes: u8,
}

/// How one cluster is to be.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions {
    pub cni: Cni,
    pub proxy: ProxyMode,
    /// Whether pods have their node's address for whoever is not in their network.
    pub masquerade: bool,
}

/// A part of a cluster that can be killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    Etcd,
    KubeApiserver,
    ControllerManager,
    Scheduler,
    Containerd(&'a str),
    Kubelet(&'a str),
    KubeProxy(&'a str),
    /// All processes of a node, pods included.
    Node(&'a str),
}

/// A pod as its cluster tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    pub namespace: String,
    pub name: String,
    pub node: String,
    pub ip: Option<IpAddr>,
    pub is_ready: bool,
}

/// Makes clusters.
pub trait Provider {
    fn name(&self) -> &'static str;

    /// Why it cannot work on this machine, in one line; `None` when it can.
    fn missing(&self) -> Option<String>;

    /// Brings clusters up and waits until they are ready for pods. After a failure nothing is left.
    fn up(&self, plan: &Plan) -> Result<Box<dyn Clusters>>;
}

/// Clusters that run. Dropped, they are taken down.
pub trait Clusters {
    fn clusters(&self) -> Vec<String>;

    fn nodes(&self, cluster: &str) -> Result<Vec<String>>;

    /// A file by which programs of this machine reach a cluster as its administrator.
    fn kubeconfig(&self, cluster: &str) -> Result<PathBuf>;

    /// Puts the images of an archive (as `docker save` writes it) on all nodes.
    fn load_image(&self, archive: &Path) -> Result<()>;

    /// Applies manifests, several documents a text.
    fn apply(&self, cluster: &str, manifests: &str) -> Result<()>;

    fn pods(&self, cluster: &str, namespace: &str) -> Result<Vec<PodState>>;

    /// Runs a command in a pod and gives what it prints.
    fn exec(&self, cluster: &str, namespace: &str, pod: &str, command: &[&str]) -> Result<String>;

    /// Kills a part at once (SIGKILL, or a power cut).
    fn kill(&self, cluster: &str, part: Part<'_>) -> Result<()>;

    /// Starts a killed part again and waits until it serves.
    fn start_again(&self, cluster: &str, part: Part<'_>) -> Result<()>;

    /// Takes everything down and says what remains: nothing, if all is well.
    fn down(self: Box<Self>) -> Result<Vec<String>>;
}

impl Plan {
    /// Two clusters of two nodes: `bridge` and nftables, `ptp` and iptables, both with masquerade.
    pub fn pair(name: LabName) -> Self {
        let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
        let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Ptp, ProxyMode::Iptables)];
        Self { name, clusters, nodes: 2 }
    }

    /// The addresses and names of it all.
    pub fn topology(&self) -> Result<Topology> {
        let count = self.clusters.len();
        if !(1..=MOST_CLUSTERS).contains(&count) || !(1..=MOST_NODES).contains(&self.nodes) {
            bail!(
                "{count} clusters of {} nodes: ask for 1 to {MOST_CLUSTERS} clusters of 1 to {MOST_NODES} nodes",
                self.nodes
            );
        }
        Ok(Topology::plain(u8::try_from(count)?, self.nodes))
    }
}

impl PodState {
    /// Of a Pod object.
    pub(crate) fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            node: text(&object["spec"]["nodeName"]),
            ip: object["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()),
            is_ready: crate::kubernetes::kubectl::has_condition(object, "Ready"),
        }
    }
}
