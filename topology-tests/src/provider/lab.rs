//! The namespace lab: pods without Kubernetes. It plays workloads of manifests, and has no API server to ask.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{Clusters, Part, Plan, PodState, Provider};
use crate::kubernetes::cni;
use crate::lab::{self, Lab};
use crate::manifest::Manifests;
use crate::topology;

pub struct NamespaceLab;

impl Provider for NamespaceLab {
    fn name(&self) -> &'static str {
        "namespace lab"
    }

    fn missing(&self) -> Option<String> {
        crate::requirements::missing()
    }

    /// Its networks always masquerade, and it has no kube-proxy: the mode is nobody's there.
    fn up(&self, plan: &Plan) -> Result<Box<dyn Clusters>> {
        let mut topology = plan.topology()?;
        for (cluster, asked) in topology.clusters.iter_mut().zip(&plan.clusters) {
            cluster.cni = match asked.cni {
                cni::Cni::Bridge => topology::Cni::Bridge,
                cni::Cni::Ptp => topology::Cni::Ptp,
                cni::Cni::Flannel => bail!("the namespace lab has no flannel: ask for bridge or ptp"),
            };
            if !asked.masquerade {
                bail!("the namespace lab's networks always masquerade");
            }
        }
        Ok(Box::new(Lab::up(lab::Options { name: plan.name.clone(), topology, manifests: BTreeMap::new() })?))
    }
}

impl Clusters for Lab {
    fn clusters(&self) -> Vec<String> {
        self.topology.clusters.iter().map(|cluster| cluster.name.clone()).collect()
    }

    fn nodes(&self, cluster: &str) -> Result<Vec<String>> {
        Ok(self.cluster_plan(cluster)?.nodes.iter().map(|node| node.name.clone()).collect())
    }

    fn kubeconfig(&self, cluster: &str) -> Result<PathBuf> {
        bail!("{cluster} is of the namespace lab, which has no API server")
    }

    fn load_image(&self, archive: &Path) -> Result<()> {
        bail!("the namespace lab runs programs of this machine, and no images: {} is of no use", archive.display())
    }

    fn apply(&self, cluster: &str, manifests: &str) -> Result<()> {
        Self::apply(self, cluster, &Manifests::parse(manifests, "the manifests applied")?)
    }

    fn pods(&self, cluster: &str, namespace: &str) -> Result<Vec<PodState>> {
        self.cluster_plan(cluster)?;
        let ours = Self::pods(self).into_iter().filter(|pod| pod.cluster == cluster && pod.namespace == namespace);
        let state = |pod: crate::control_plane::PodRecord| PodState {
            namespace: pod.namespace,
            name: pod.name,
            node: pod.node,
            ip: pod.ip.map(IpAddr::from),
            is_ready: pod.is_ready,
        };
        Ok(ours.map(state).collect())
    }

    fn exec(&self, cluster: &str, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let Some((program, args)) = command.split_first() else { bail!("no command was given") };
        let pod = self.pod(&format!("{cluster}/{namespace}/{pod}"))?;
        self.run_in(&self.pod_place(&pod)?, program, args)
    }

    fn kill(&self, cluster: &str, part: Part<'_>) -> Result<()> {
        bail!("{cluster} is of the namespace lab, which has no {part:?}; see Lab::halt_pods and Lab::kill_pod")
    }

    fn start_again(&self, cluster: &str, part: Part<'_>) -> Result<()> {
        bail!("{cluster} is of the namespace lab, which has no {part:?}; see Lab::resume_pods")
    }

    fn down(self: Box<Self>) -> Result<Vec<String>> {
        Self::down(*self)
    }
}
