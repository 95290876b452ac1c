//! Real Kubernetes nodes in namespaces of this machine.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Clusters, Part, Plan, PodState, Provider};
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::component::Component;
use crate::kubernetes::node::{Node, NodePart};
use crate::kubernetes::{Kubernetes, control_plane, requirements};

pub struct RealNodes;

impl Provider for RealNodes {
    fn name(&self) -> &'static str {
        "real nodes"
    }

    fn missing(&self) -> Option<String> {
        requirements::missing()
    }

    fn up(&self, plan: &Plan) -> Result<Box<dyn Clusters>> {
        Ok(Box::new(Kubernetes::up(plan)?))
    }
}

/// What a part is, in the cluster that has it.
enum Found<'a> {
    Server(&'a Component),
    NodePart(&'a Node, NodePart),
    Node(&'a Node),
}

impl Clusters for Kubernetes {
    fn clusters(&self) -> Vec<String> {
        self.topology.clusters.iter().map(|cluster| cluster.name.clone()).collect()
    }

    fn nodes(&self, cluster: &str) -> Result<Vec<String>> {
        Ok(self.cluster(cluster)?.nodes.iter().map(|node| node.name().to_owned()).collect())
    }

    fn kubeconfig(&self, cluster: &str) -> Result<PathBuf> {
        Ok(self.cluster(cluster)?.control_plane.kubeconfig.clone())
    }

    fn load_image(&self, archive: &Path) -> Result<()> {
        self.clusters.iter().flat_map(|cluster| &cluster.nodes).try_for_each(|node| node.load_image(archive))
    }

    fn apply(&self, cluster: &str, manifests: &str) -> Result<()> {
        self.cluster(cluster)?.control_plane.kubectl.apply(manifests)
    }

    fn pods(&self, cluster: &str, namespace: &str) -> Result<Vec<PodState>> {
        Self::pods(self, cluster, namespace)
    }

    fn exec(&self, cluster: &str, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let kubectl = &self.cluster(cluster)?.control_plane.kubectl;
        kubectl.run(&[&["exec", "-n", namespace, pod, "--"], command].concat())
    }

    fn kill(&self, cluster: &str, part: Part<'_>) -> Result<()> {
        match find(self.cluster(cluster)?, part)? {
            Found::Server(component) => component.kill(),
            Found::NodePart(node, part) => node.kill(part),
            Found::Node(node) => node.power_off(),
        }
    }

    fn start_again(&self, cluster: &str, part: Part<'_>) -> Result<()> {
        let cluster = self.cluster(cluster)?;
        match find(cluster, part)? {
            Found::Server(component) => {
                component.start_again()?;
                // All of the control plane shows in this: etcd is its store.
                control_plane::wait_ready(&cluster.control_plane.apiserver, &cluster.control_plane.kubectl)
            }
            Found::NodePart(node, part) => node.start_again(part),
            Found::Node(node) => node.boot(),
        }
    }

    fn down(self: Box<Self>) -> Result<Vec<String>> {
        Self::down(*self)
    }
}

fn find<'a>(cluster: &'a Cluster, part: Part<'_>) -> Result<Found<'a>> {
    let servers = &cluster.control_plane;
    Ok(match part {
        Part::Etcd => Found::Server(&servers.etcd),
        Part::KubeApiserver => Found::Server(&servers.apiserver),
        Part::ControllerManager => Found::Server(&servers.controllers),
        Part::Scheduler => Found::Server(&servers.scheduler),
        Part::Containerd(node) => Found::NodePart(cluster.node(node)?, NodePart::Containerd),
        Part::Kubelet(node) => Found::NodePart(cluster.node(node)?, NodePart::Kubelet),
        Part::KubeProxy(node) => Found::NodePart(cluster.node(node)?, NodePart::KubeProxy),
        Part::Node(node) => Found::Node(cluster.node(node)?),
    })
}
