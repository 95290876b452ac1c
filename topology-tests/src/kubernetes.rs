//! Real Kubernetes clusters on one machine: real control planes and real nodes (kubelet, containerd, kube-proxy) in network,
//! mount and cgroup namespaces of the run's own, wired like the lab's. Owns everything that it makes and removes it whole,
//! as the lab does; two runs with two names never meet.
//!
//! ```text
//! provider ─> kubernetes ─> cluster ─┬> control_plane (certs, etcd, kube-apiserver, ...), reached through forward
//!                                    ├> node (machine: mounts) ─> containerd, kubelet, kube_proxy, cni
//!                                    └> coredns                   images: archives of this machine's programs
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_tools::Tools;

use crate::binaries::Binaries;
use crate::cgroup;
use crate::guard::Guard;
use crate::lab::owner;
use crate::names::LabName;
use crate::place::Place;
use crate::provider::{Plan, PodState};
use crate::teardown;
use crate::topology::Topology;
use crate::wan::Wan;
use crate::wiring;
use cluster::Cluster;

pub mod certs;
pub mod cluster;
pub mod cni;
pub mod component;
pub mod containerd;
pub mod control_plane;
pub mod coredns;
pub mod forward;
pub mod images;
pub mod kube_proxy;
pub mod kubeconfig;
pub mod kubectl;
pub mod kubelet;
pub mod load;
pub mod machine;
pub mod mcs_api;
pub mod node;
pub mod processes;
pub mod release;
pub mod requirements;
pub mod workload;

/// Clusters that run. Dropped, by success, failure or panic, nothing remains.
pub struct Kubernetes {
    pub name: LabName,
    pub topology: Topology,
    pub tools: Tools,
    /// Between the clusters: faults and counters.
    pub wan: Wan,
    pub clusters: Vec<Cluster>,
    pub took: Duration,
    logs: PathBuf,
    guard: Option<Guard>,
}

impl Kubernetes {
    /// Builds clusters and waits until they are ready. Whatever an earlier run of this name left is removed first.
    pub fn up(plan: &Plan) -> Result<Self> {
        let start = Instant::now();
        if let Some(why) = requirements::missing() {
            bail!("no Kubernetes can run here: {why}");
        }
        for asked in &plan.clusters {
            asked.proxy.check()?;
        }
        let (name, tools, binaries) = (plan.name.clone(), Tools::find()?, Binaries::beside_this_one()?);
        let topology = plan.topology()?;
        let state = name.state_dir();
        if let Some(pid) = owner(&state) {
            bail!("{name} is running already (process {pid}); take it down first: lab k8s down --name {name}");
        }
        teardown::sweep(&name).context("remove what an earlier run left")?;
        let logs = binaries.target_dir().join("lab-logs").join(name.as_str());
        if logs.exists() {
            std::fs::remove_dir_all(&logs).context("remove the logs of an earlier run")?;
        }
        for folder in [&logs, &state] {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(state.join("owner"), std::process::id().to_string()).context("say who owns the run")?;
        let guard = Some(Guard::start(&binaries, &name)?);
        let wan = Wan::of(&name, &topology);
        let mut run = Self { name, topology, tools, wan, clusters: Vec::new(), took: Duration::ZERO, logs, guard };
        // From here on a failure drops `run`, which takes down what was built.
        run.build(plan, &binaries)?;
        run.took = start.elapsed();
        Ok(run)
    }

    fn build(&mut self, plan: &Plan, binaries: &Binaries) -> Result<()> {
        cgroup::create(&self.name.system_cgroup())?;
        wiring::build(&self.name, &self.topology)?;
        self.wan = Wan::start(&self.name, &self.topology)?;
        let folder = self.name.state_dir().join("images");
        let images = images::write_all(&folder, &self.tools.program("coredns")?, &binaries.find("lab-workload")?)?;
        let place = Place { launcher: binaries.find("lab-node")?, net: PathBuf::new(), mnt: None, cgroup: None };
        let this = &*self;
        let started: Vec<Result<Cluster>> = std::thread::scope(|scope| {
            let (images, place) = (&images, &place);
            let starts: Vec<_> = this
                .topology
                .clusters
                .iter()
                .zip(&plan.clusters)
                .map(|(cluster, asked)| {
                    let start = move || {
                        Cluster::start(&cluster::Options {
                            lab: &this.name,
                            tools: &this.tools,
                            place,
                            plan: cluster,
                            asked: *asked,
                            images,
                            logs: &this.logs,
                        })
                        .with_context(|| format!("start {}; logs: {}", cluster.name, this.logs.display()))
                    };
                    scope.spawn(start)
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().map_err(|_panic| anyhow!("a cluster's start panicked")).flatten())
                .collect()
        });
        // Those that came up go down with the rest when one did not.
        self.clusters = started.into_iter().collect::<Result<_>>()?;
        Ok(())
    }

    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        let found = self.clusters.iter().find(|cluster| cluster.plan.name == name);
        found.with_context(|| format!("there is no cluster {name}"))
    }

    /// The folder of logs: it stays after the clusters are down.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The pods of a namespace.
    pub fn pods(&self, cluster: &str, namespace: &str) -> Result<Vec<PodState>> {
        let list = self.cluster(cluster)?.control_plane.kubectl.get(&["pods", "-n", namespace])?;
        Ok(list["items"].as_array().map(|items| items.iter().map(PodState::of).collect()).unwrap_or_default())
    }

    /// Takes everything down and says what remains: nothing, if all is well.
    pub fn down(mut self) -> Result<Vec<String>> {
        self.take_down()?;
        Ok(teardown::leftovers(&self.name))
    }

    fn take_down(&mut self) -> Result<()> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        // All processes go at once: none sees another go first, and no pod is told to end.
        let killed = cgroup::kill(&self.name.cgroup());
        self.clusters.clear();
        teardown::sweep(&self.name)?;
        guard.dismiss()?;
        killed
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::error!("taking {} down: {error:#}", self.name);
        }
    }
}
