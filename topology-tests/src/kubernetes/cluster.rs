//! One real cluster: its control plane, its nodes and its DNS, from nothing to ready.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use k8s_tools::Tools;
use serde_json::json;

use super::cni::{Cni, Network, flannel_rights};
use super::control_plane::ControlPlane;
use super::coredns;
use super::node::{self, Node};
use crate::names::LabName;
use crate::place::Place;
use crate::provider::ClusterOptions;
use crate::topology::ClusterPlan;

const READY: Duration = Duration::from_mins(2);

pub struct Cluster {
    pub plan: ClusterPlan,
    pub control_plane: ControlPlane,
    pub nodes: Vec<Node>,
    /// How long each step took, in order.
    pub times: Vec<(&'static str, Duration)>,
}

/// What a cluster is made with.
pub struct Options<'a> {
    pub lab: &'a LabName,
    pub tools: &'a Tools,
    /// A place whose launcher is used.
    pub place: &'a Place,
    pub plan: &'a ClusterPlan,
    pub asked: ClusterOptions,
    pub images: &'a [PathBuf],
    pub logs: &'a Path,
}

impl Cluster {
    /// Starts everything and waits until the nodes and DNS are ready.
    pub fn start(options: &Options<'_>) -> Result<Self> {
        let Options { lab, tools, place, plan, asked, logs, .. } = *options;
        let start = Instant::now();
        let mut times = Vec::new();
        let control_plane = ControlPlane::start(tools, lab, plan, place, logs)?;
        times.push(("control plane", start.elapsed()));
        let kubectl = &control_plane.kubectl;
        kubectl.apply(&node_objects(plan))?;
        if asked.cni == Cni::Flannel {
            kubectl.apply(&flannel_rights())?;
        }
        let nodes = options.boot(&control_plane)?;
        times.push(("nodes booted", start.elapsed()));
        kubectl.wait_nodes_ready(nodes.len(), READY)?;
        times.push(("nodes ready", start.elapsed()));
        kubectl.apply(&coredns::objects(plan))?;
        kubectl.rolled_out(coredns::NAMESPACE, coredns::WORKLOAD, READY)?;
        times.push(("DNS ready", start.elapsed()));
        Ok(Self { plan: plan.clone(), control_plane, nodes, times })
    }

    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.with_context(|| format!("{} has no node {name}", self.plan.name))
    }
}

impl Options<'_> {
    /// Boots all nodes at the same time.
    fn boot(&self, control_plane: &ControlPlane) -> Result<Vec<Node>> {
        std::thread::scope(|scope| {
            let boots: Vec<_> = self
                .plan
                .nodes
                .iter()
                .map(|plan| {
                    let options = node::Options {
                        lab: self.lab.clone(),
                        launcher: self.place.launcher.clone(),
                        tools: self.tools.clone(),
                        cluster: self.plan.clone(),
                        plan: plan.clone(),
                        network: Network {
                            cni: self.asked.cni,
                            masquerade: self.asked.masquerade,
                            cluster: self.plan.pod_cidr,
                            node: plan.pod_cidr,
                        },
                        proxy: self.asked.proxy,
                        url: control_plane.url.clone(),
                        images: self.images.to_vec(),
                        logs: self.logs.to_owned(),
                    };
                    scope.spawn(move || Node::start(options, &control_plane.pki))
                })
                .collect();
            let booted =
                boots.into_iter().map(|boot| boot.join().map_err(|_panic| anyhow!("a node's boot panicked"))?);
            booted.collect()
        })
    }
}

/// The nodes, before their kubelets come: each has its range of pods then, which a kubelet may not choose.
fn node_objects(plan: &ClusterPlan) -> String {
    let node = |node: &crate::topology::NodePlan| {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node.name,
                "labels": {
                    "kubernetes.io/hostname": node.name,
                    "topology.kubernetes.io/region": plan.name,
                    "topology.kubernetes.io/zone": format!("{}-{}", plan.name, node.name),
                },
            },
            "spec": { "podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr] },
        })
    };
    let all: Vec<_> = plan.nodes.iter().map(node).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string()
}
