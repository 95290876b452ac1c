//! A pod's sandbox: its network namespace, attached by CNI, and its cgroup. Outlives the pod's process.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use super::Shared;
use super::pod::PodSpec;
use crate::cgroup;
use crate::cni::Attachment;
use crate::netns;
use crate::place::Place;

pub(super) struct Sandbox {
    pub(super) netns: String,
    pub(super) cgroup: PathBuf,
    pub(super) attachment: Attachment,
    place: Place,
}

impl Sandbox {
    pub(super) async fn create(shared: &Shared, pod: &PodSpec) -> Result<Self> {
        let node = &shared.options.node;
        let netns = shared.options.lab.netns(&format!("{}-{}-{}", node.cluster.name, pod.namespace, pod.name));
        let cgroup = node.pods_cgroup.join(format!("{}_{}", pod.namespace, pod.name));
        netns::create(std::slice::from_ref(&netns))?;
        cgroup::create(&cgroup)?;
        let attachment = shared.network.add(&netns, &netns::path(&netns)).await?;
        let place = Place { net: netns::path(&netns), ..node.place.in_cgroup(&cgroup) };
        Ok(Self { netns, cgroup, attachment, place })
    }

    /// Starts the pod's process.
    pub(super) fn start(&self, shared: &Shared, pod: &PodSpec) -> Result<Child> {
        let node = &shared.options.node;
        let file = format!("pod-{}-{}-{}.log", node.cluster.name, pod.namespace, pod.name);
        let path = shared.options.logs.join(file);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        let mut command = Command::from(self.place.command(&shared.options.workload));
        command
            .env("CLUSTER", &node.cluster.name)
            .env("NODE", node.name())
            .env("NAMESPACE", &pod.namespace)
            .env("POD", &pod.name)
            .env("PORTS", pod.ports())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("start pod {}", pod.name))
    }

    /// Detaches the pod and removes what `create` made.
    pub(super) async fn remove(self, shared: &Shared) -> Result<()> {
        cgroup::remove_tree(&self.cgroup)?;
        shared.network.del(&self.netns, &netns::path(&self.netns), &self.attachment).await?;
        netns::delete(&self.netns)
    }
}
