//! kind, for developers with Docker: its nodes are containers, with its own CNI. Drives the programs `kind`, `docker` and
//! `kubectl`; owns the clusters whose names carry the run's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use k8s_tools::Tools;

use super::{Clusters, Part, Plan, PodState, Provider};
use crate::kubernetes::kubectl::Kubectl;
use crate::names::LabName;
use crate::proc;

pub struct Kind;

/// Clusters of kind's that run.
struct KindClusters {
    run: LabName,
    names: Vec<String>,
    nodes: u8,
    tools: Tools,
    folder: PathBuf,
    is_up: bool,
}

impl Provider for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn missing(&self) -> Option<String> {
        let answers = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args);
            proc::output(program, command).is_ok()
        };
        if !answers("kind", &["version"]) {
            return Some("no program kind: https://kind.sigs.k8s.io".into());
        }
        if !answers("docker", &["info"]) {
            return Some("no Docker answers: kind's nodes are its containers".into());
        }
        Tools::find().err().map(|error| format!("{error:#}"))
    }

    /// The networks are kind's own, whatever CNI is asked for, and masquerade. kube-proxy is in the mode that is asked for.
    fn up(&self, plan: &Plan) -> Result<Box<dyn Clusters>> {
        let topology = plan.topology()?;
        if plan.clusters.iter().any(|cluster| !cluster.masquerade) {
            bail!("kind's network always masquerades");
        }
        let folder = plan.name.state_dir();
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let names = topology.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        let (run, nodes, tools) = (plan.name.clone(), plan.nodes, Tools::find()?);
        // From here on a failure drops it, which deletes what was made.
        let clusters = KindClusters { run, names, nodes, tools, folder, is_up: true };
        for (cluster, asked) in topology.clusters.iter().zip(&plan.clusters) {
            let config = clusters.folder.join(format!("{}.kind.yaml", cluster.name));
            let workers = "- role: worker\n".repeat(usize::from(plan.nodes).saturating_sub(1));
            let text = format!(
                "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking:\n  kubeProxyMode: {}\n  podSubnet: {}\n  \
                 serviceSubnet: {}\nnodes:\n- role: control-plane\n{workers}",
                asked.proxy, cluster.pod_cidr, cluster.service_cidr
            );
            std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
            let mut create = Command::new("kind");
            create.args(["create", "cluster", "--wait", "180s", "--name", &clusters.kind_name(&cluster.name)]);
            create.arg("--config").arg(&config).arg("--kubeconfig").arg(clusters.kubeconfig_of(&cluster.name));
            proc::output("kind create cluster", create)?;
        }
        Ok(Box::new(clusters))
    }
}

impl KindClusters {
    fn kind_name(&self, cluster: &str) -> String {
        format!("isthmus-{}-{cluster}", self.run)
    }

    fn kubeconfig_of(&self, cluster: &str) -> PathBuf {
        self.folder.join(format!("{cluster}.kubeconfig"))
    }

    fn kubectl(&self, cluster: &str) -> Result<Kubectl> {
        Ok(Kubectl::new(&self.tools.program("kubectl")?, &self.kubeconfig(cluster)?))
    }

    /// `systemctl VERB UNIT` on a node, or Docker's `kill` and `start` of the node as a whole.
    fn change(&self, cluster: &str, part: Part<'_>, is_kill: bool) -> Result<()> {
        let node = |name: &str| self.node(cluster, name);
        let unit = |name: &str, unit: &str| {
            let (node, unit) = (node(name)?, format!("{unit}.service"));
            let kill = ["exec", &node, "systemctl", "kill", "--signal=KILL", &unit];
            let start = ["exec", &node, "systemctl", "restart", &unit];
            docker(if is_kill { &kill } else { &start })
        };
        match part {
            Part::Node(name) => docker(&[if is_kill { "kill" } else { "start" }, &node(name)?]),
            Part::Containerd(name) => unit(name, "containerd"),
            Part::Kubelet(name) => unit(name, "kubelet"),
            part => bail!("{part:?} is a pod of kind's cluster {cluster}: its kubelet starts it again by itself"),
        }
        .map(drop)
    }

    fn node(&self, cluster: &str, name: &str) -> Result<String> {
        let found = self.nodes(cluster)?.into_iter().find(|node| node == name);
        found.with_context(|| format!("{cluster} has no node {name}"))
    }

    fn take_down(&mut self) -> Result<Vec<String>> {
        if !std::mem::take(&mut self.is_up) {
            return Ok(Vec::new());
        }
        for cluster in &self.names {
            let mut delete = Command::new("kind");
            delete.args(["delete", "cluster", "--name", &self.kind_name(cluster)]);
            delete.arg("--kubeconfig").arg(self.kubeconfig_of(cluster));
            proc::output("kind delete cluster", delete)?;
        }
        std::fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))?;
        let left = docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", &self.filter()])?;
        Ok(left.lines().map(|name| format!("container {name}")).collect())
    }

    fn filter(&self) -> String {
        format!("name=^isthmus-{}-cluster-", self.run)
    }
}

fn docker(args: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(args);
    proc::output(&format!("docker {}", args.join(" ")), command)
}

impl Clusters for KindClusters {
    fn clusters(&self) -> Vec<String> {
        self.names.clone()
    }

    fn nodes(&self, cluster: &str) -> Result<Vec<String>> {
        self.kubeconfig(cluster)?;
        let name = self.kind_name(cluster);
        let worker = |n: u8| if n == 1 { format!("{name}-worker") } else { format!("{name}-worker{n}") };
        Ok(std::iter::once(format!("{name}-control-plane")).chain((1..self.nodes).map(worker)).collect())
    }

    fn kubeconfig(&self, cluster: &str) -> Result<PathBuf> {
        if !self.names.iter().any(|name| name == cluster) {
            bail!("there is no cluster {cluster}");
        }
        Ok(self.kubeconfig_of(cluster))
    }

    fn load_image(&self, archive: &Path) -> Result<()> {
        for cluster in &self.names {
            let mut load = Command::new("kind");
            load.args(["load", "image-archive", "--name", &self.kind_name(cluster)]).arg(archive);
            proc::output("kind load image-archive", load)?;
        }
        Ok(())
    }

    fn apply(&self, cluster: &str, manifests: &str) -> Result<()> {
        self.kubectl(cluster)?.apply(manifests)
    }

    fn pods(&self, cluster: &str, namespace: &str) -> Result<Vec<PodState>> {
        let list = self.kubectl(cluster)?.get(&["pods", "-n", namespace])?;
        Ok(list["items"].as_array().map(|items| items.iter().map(PodState::of).collect()).unwrap_or_default())
    }

    fn exec(&self, cluster: &str, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(cluster)?.run(&[&["exec", "-n", namespace, pod, "--"], command].concat())
    }

    fn kill(&self, cluster: &str, part: Part<'_>) -> Result<()> {
        self.change(cluster, part, true)
    }

    fn start_again(&self, cluster: &str, part: Part<'_>) -> Result<()> {
        self.change(cluster, part, false)
    }

    fn down(mut self: Box<Self>) -> Result<Vec<String>> {
        self.take_down()
    }
}

impl Drop for KindClusters {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::error!("taking kind's clusters of {} down: {error:#}", self.run);
        }
    }
}
