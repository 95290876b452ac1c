//! A running lab: builds the plan, runs the pods of the manifests, starts the mesh when asked, and takes everything down.
//! One value owns it all; when it is dropped, by success, failure or panic, nothing remains.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;

use crate::binaries::Binaries;
use crate::cgroup;
use crate::control_plane::{ControlPlane, PodRecord};
use crate::deadline::wait_for;
use crate::guard::Guard;
use crate::inject::{self, Packet};
use crate::kubelet::{self, Kubelet};
use crate::load::{Plan, running::Running};
use crate::manifest::Manifests;
use crate::names::LabName;
use crate::node::Node;
use crate::place::Place;
use crate::teardown;
use crate::topology::{ClusterPlan, Topology};
use crate::wan::Wan;
use crate::wiring;

pub mod pods;
mod schedule;

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: LabName,
    pub topology: Topology,
    /// Manifests by cluster.
    pub manifests: BTreeMap<String, Manifests>,
}

#[derive(Debug)]
pub struct Lab {
    pub name: LabName,
    pub topology: Topology,
    pub binaries: Binaries,
    pub wan: Wan,
    logs: PathBuf,
    nodes: BTreeMap<String, Arc<Node>>,
    clusters: BTreeMap<String, Cluster>,
    guard: Option<Guard>,
    /// `cluster/namespace/name` of every pod that was asked for.
    expected: Mutex<Vec<String>>,
}

/// The running side of a cluster, without the mesh.
#[derive(Debug)]
struct Cluster {
    control: Arc<ControlPlane>,
    kubelets: Vec<Kubelet>,
}

impl Lab {
    /// Builds the lab and starts its pods; does not wait for them. Whatever an earlier lab of this name left is removed first.
    pub fn up(options: Options) -> Result<Self> {
        if let Some(why) = crate::requirements::missing() {
            bail!("no lab can be made here: {why}");
        }
        let Options { name, topology, manifests } = options;
        let binaries = Binaries::beside_this_one()?;
        let state = name.state_dir();
        if let Some(pid) = owner(&state) {
            bail!("lab {name} is running already (process {pid}); take it down first: lab down --name {name}");
        }
        teardown::sweep(&name).context("remove what an earlier lab left")?;
        let logs = binaries.target_dir().join("lab-logs").join(name.as_str());
        if logs.exists() {
            std::fs::remove_dir_all(&logs).context("remove the logs of an earlier lab")?;
        }
        for folder in [&logs, &state] {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(state.join("owner"), std::process::id().to_string()).context("say who owns the lab")?;
        let guard = Some(Guard::start(&binaries, &name)?);
        let wan = Wan::of(&name, &topology);
        let (nodes, clusters, expected) = (BTreeMap::new(), BTreeMap::new(), Mutex::default());
        let mut lab = Self { name, topology, binaries, wan, logs, nodes, clusters, guard, expected };
        // From here on a failure drops `lab`, which takes down what was built.
        lab.build()?;
        for (cluster, manifests) in manifests {
            lab.apply(&cluster, &manifests)?;
        }
        Ok(lab)
    }

    fn build(&mut self) -> Result<()> {
        cgroup::create(&self.name.system_cgroup())?;
        wiring::build(&self.name, &self.topology)?;
        self.wan = Wan::start(&self.name, &self.topology)?;
        for cluster in &self.topology.clusters {
            let state = self.cluster_dir(&cluster.name);
            let control = Arc::new(ControlPlane::new(cluster, state.join("manifests"), state.join("half-written"))?);
            control.put_objects(&[], &[], &[])?;
            let mut kubelets = Vec::new();
            for plan in &cluster.nodes {
                let node = Arc::new(Node::start(&self.binaries, &self.name, cluster, plan)?);
                self.nodes.insert(plan.name.clone(), Arc::clone(&node));
                kubelets.push(Kubelet::start(kubelet::Options {
                    lab: self.name.clone(),
                    node,
                    control: Arc::clone(&control),
                    workload: self.binaries.find("lab-workload")?,
                    logs: self.logs.clone(),
                })?);
            }
            self.clusters.insert(cluster.name.clone(), Cluster { control, kubelets });
        }
        Ok(())
    }

    /// Takes everything down and says what remains: nothing, if all is well.
    pub fn down(mut self) -> Result<Vec<String>> {
        self.take_down()?;
        Ok(teardown::leftovers(&self.name))
    }

    fn take_down(&mut self) -> Result<()> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        // All processes go at once, so that none sees another go first; then the threads that watched them.
        let killed = cgroup::kill(&self.name.cgroup());
        for (_, cluster) in std::mem::take(&mut self.clusters) {
            for kubelet in cluster.kubelets {
                kubelet.stop();
            }
        }
        for node in std::mem::take(&mut self.nodes).into_values() {
            node.stop();
        }
        teardown::sweep(&self.name)?;
        guard.dismiss()?;
        killed
    }

    /// The folder of logs: it stays after the lab is down.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Everything of one cluster that lives on disk.
    pub fn cluster_dir(&self, cluster: &str) -> PathBuf {
        self.name.state_dir().join(cluster)
    }

    pub fn cluster_plan(&self, cluster: &str) -> Result<&ClusterPlan> {
        let mut clusters = self.topology.clusters.iter();
        clusters.find(|plan| plan.name == cluster).with_context(|| format!("there is no cluster {cluster}"))
    }

    pub fn node(&self, name: &str) -> Result<&Arc<Node>> {
        self.nodes.get(name).with_context(|| format!("there is no node {name}"))
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The control plane of a cluster, to change services and to look at objects.
    pub fn control(&self, cluster: &str) -> Result<&Arc<ControlPlane>> {
        Ok(&self.cluster(cluster)?.control)
    }

    /// The cluster IP of a service.
    pub fn cluster_ip(&self, cluster: &str, namespace: &str, service: &str) -> Result<Ipv4Addr> {
        let object = self.control(cluster)?.service(namespace, service);
        let object = object.with_context(|| format!("{cluster} has no service {namespace}/{service}"))?;
        let text = object["spec"]["clusterIP"].as_str().unwrap_or_default();
        text.parse().with_context(|| format!("service {namespace}/{service} of {cluster} has no cluster IP"))
    }

    /// Runs a program in a node's or a pod's place and gives what it prints.
    pub fn run_in(&self, place: &Place, program: &str, args: &[&str]) -> Result<String> {
        let mut command: Command = place.command(program);
        command.args(args);
        crate::proc::output(program, command)
    }

    /// Starts the load generator in a pod, as that pod; the label tells several of one pod apart.
    pub fn start_load(&self, client: &PodRecord, label: &str, plan: &Plan) -> Result<Running> {
        let program = self.binaries.find("lab-load")?;
        let records = self.logs.join(format!("load-{}-{label}.jsonl", client.name));
        Running::start(&program, &client.name, &self.pod_place(client)?, plan, &records)
    }

    /// Sends forged packets from a pod, past its own address.
    pub fn inject_from_pod(&self, pod: &PodRecord, packets: &[Packet]) -> Result<()> {
        inject::send(&pod.netns, packets)
    }

    /// Sends forged packets from the WAN: whoever sits between the clusters.
    pub fn inject_from_wan(&self, packets: &[Packet]) -> Result<()> {
        inject::send(&self.name.netns(wiring::WAN), packets)
    }

    /// Sends forged packets from a node's own namespace.
    pub fn inject_from_node(&self, node: &str, packets: &[Packet]) -> Result<()> {
        inject::send(&self.name.netns(self.node(node)?.name()), packets)
    }

    /// Sends a datagram from a node's own namespace through an ordinary socket.
    pub fn send_from_node(
        &self,
        source: (&str, SocketAddrV4),
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> Result<()> {
        let (node, source) = source;
        inject::send_datagram(&self.name.netns(self.node(node)?.name()), source, destination, payload)
    }

    /// Takes a node's uplink down or up.
    pub fn set_uplink(&self, node: &str, is_up: bool) -> Result<()> {
        let node = self.node(node)?;
        wiring::set_uplink(&self.name, &node.cluster, &node.plan, is_up)
    }

    /// All nodes of a cluster lose power: their pods die, unreported. Cut the uplinks first, or RSTs get out.
    pub fn halt_pods(&self, cluster: &str) -> Result<()> {
        self.cluster(cluster)?.kubelets.iter().try_for_each(Kubelet::halt)
    }

    /// The nodes are back: their pods start again.
    pub fn resume_pods(&self, cluster: &str) -> Result<()> {
        self.cluster(cluster)?.kubelets.iter().for_each(Kubelet::resume);
        Ok(())
    }

    /// Asks over HTTP, from a node's namespace, whether something there says it is ready.
    pub fn answers_ok(&self, node: &str, address: std::net::SocketAddr, path: &str) -> bool {
        crate::probe::answers_ok(&self.name.netns(node), address, path)
    }

    fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters.get(name).with_context(|| format!("there is no cluster {name}"))
    }

    /// What went wrong in a kubelet so far.
    pub fn problems(&self) -> Vec<String> {
        self.clusters.values().flat_map(|cluster| &cluster.kubelets).flat_map(Kubelet::problems).collect()
    }

    /// Waits until every pod is ready. A pod that could not be started fails at once, with the reason.
    pub fn wait_pods_ready(&self, within: Duration) -> Result<()> {
        let looked = wait_for("all pods to be ready", within, || {
            let problems = self.problems();
            if !problems.is_empty() {
                return Ok(Some(Err(anyhow!("{}", problems.join("\n")))));
            }
            let unready: Vec<String> = self.expected_pods().into_iter().filter(|name| !self.is_ready(name)).collect();
            if unready.is_empty() { Ok(Some(Ok(()))) } else { bail!("not ready: {}", unready.join(", ")) }
        });
        looked?
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::error!("taking lab {} down: {error:#}", self.name);
        }
    }
}

/// The process that owns the lab whose state this is, if it lives.
pub fn owner(state: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(state.join("owner")).ok()?.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}
