//! A node of a running lab: its network namespace, and the holder process that keeps its mount namespace.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use crate::binaries::Binaries;
use crate::cgroup;
use crate::names::LabName;
use crate::netns;
use crate::nursery;
use crate::place::Place;
use crate::topology::{ClusterPlan, NodePlan};

#[derive(Debug)]
pub struct Node {
    pub cluster: ClusterPlan,
    pub plan: NodePlan,
    /// Where the node's own processes run: the mesh's among them.
    pub place: Place,
    /// The parent of the node's pods' cgroups: what an agent gets as `--cgroup-root`.
    pub pods_cgroup: PathBuf,
    holder: Mutex<std::process::Child>,
}

impl Node {
    /// Starts the holder of a node whose network namespace exists.
    pub fn start(binaries: &Binaries, lab: &LabName, cluster: &ClusterPlan, plan: &NodePlan) -> Result<Self> {
        let pods_cgroup = lab.cgroup().join(&plan.name);
        let system = lab.system_cgroup().join(&plan.name);
        cgroup::create(&pods_cgroup)?;
        cgroup::create(&system)?;
        let launcher = binaries.find("lab-node")?;
        let outside = Place {
            launcher: launcher.clone(),
            net: netns::path(&lab.netns(&plan.name)),
            mnt: None,
            cgroup: Some(system),
        };
        let mut command = outside.command(&launcher);
        command.arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = nursery::spawn(command).with_context(|| format!("start the holder of node {}", plan.name))?;
        let mut said = String::new();
        let out = holder.stdout.take().context("the holder has no standard output")?;
        BufReader::new(out).read_line(&mut said).context("listen to the holder")?;
        if said.trim() != "ready" {
            bail!("the holder of node {} did not get ready", plan.name);
        }
        let mnt = PathBuf::from(format!("/proc/{}/ns/mnt", holder.id()));
        let place = Place { mnt: Some(mnt), ..outside };
        Ok(Self { cluster: cluster.clone(), plan: plan.clone(), place, pods_cgroup, holder: Mutex::new(holder) })
    }

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Ends the holder: the mount namespace, with all pins in its bpffs, goes with its last process.
    pub fn stop(&self) {
        let mut holder = self.holder.lock();
        drop(holder.kill());
        drop(holder.wait());
    }
}
