//! The pods of a running lab: finding one, its place, killing it, adding and removing workloads.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lab;
use super::schedule::{self, Assignment};
use crate::clock::monotonic_ns;
use crate::control_plane::PodRecord;
use crate::deadline::wait_for;
use crate::load::check::{Checked, Question};
use crate::manifest::Manifests;
use crate::netns;
use crate::place::Place;

impl Lab {
    /// Adds the services and workloads of manifests to a cluster, replicas in turn on its nodes.
    pub fn apply(&self, cluster: &str, manifests: &Manifests) -> Result<()> {
        let Manifests { namespaces, service_accounts, services, workloads, ignored } = manifests;
        if !ignored.is_empty() {
            tracing::info!("{cluster}: the lab does not play {}", ignored.join(", "));
        }
        let running = self.cluster(cluster)?;
        running.control.put_objects(namespaces, service_accounts, services)?;
        let known_services = running.control.services();
        for Assignment { node, pod } in schedule::assign(workloads, &known_services, running.kubelets.len()) {
            running.kubelets[node].start_pod(pod.clone())?;
            self.expected.lock().push(format!("{cluster}/{}/{}", pod.namespace, pod.name));
        }
        Ok(())
    }

    /// Removes a pod gracefully: it leaves the slices first, then it ends, then it is detached.
    pub fn delete_pod(&self, pod: &PodRecord) -> Result<()> {
        let running = self.cluster(&pod.cluster)?;
        let mut kubelets = running.kubelets.iter();
        let kubelet = kubelets.find(|kubelet| kubelet.node().name() == pod.node).context("the pod's node is gone")?;
        self.expected.lock().retain(|name| *name != format!("{}/{}", pod.cluster, pod.full_name()));
        kubelet.delete_pod((pod.namespace.clone(), pod.name.clone()))
    }

    pub fn pods(&self) -> Vec<PodRecord> {
        self.clusters.values().flat_map(|cluster| cluster.control.pods()).collect()
    }

    /// A pod by `[cluster/][namespace/]name`. A name that means several is refused with all of them.
    pub fn pod(&self, name: &str) -> Result<PodRecord> {
        find(&self.pods(), name).cloned()
    }

    /// Where a pod's process runs.
    pub fn pod_place(&self, pod: &PodRecord) -> Result<Place> {
        let node = self.node(&pod.node)?;
        Ok(Place { net: netns::path(&pod.netns), ..node.place.in_cgroup(&pod.cgroup) })
    }

    /// SIGKILL to a pod's process, at the time given back. The kubelet sees it end, and starts it again after its backoff.
    pub fn kill_pod(&self, name: &str) -> Result<u64> {
        let pod = self.pod(name)?;
        let pid = pod.pid.with_context(|| format!("pod {name} does not run"))?;
        let at = monotonic_ns();
        kill(Pid::from_raw(i32::try_from(pid).context("process ids fit in an i32")?), Signal::SIGKILL)
            .with_context(|| format!("kill pod {name}"))?;
        Ok(at)
    }

    /// Waits until one pod, by `cluster/namespace/name`, is ready.
    pub fn wait_pod_ready(&self, name: &str, within: Duration) -> Result<PodRecord> {
        wait_for(&format!("pod {name} to be ready"), within, || {
            Ok(self.pod(name).ok().filter(|pod| pod.is_ready && pod.pid.is_some()))
        })
    }

    /// Asks targets from within a pod, as that pod.
    pub fn check_from(&self, client: &PodRecord, questions: &[Question], bytes: usize) -> Result<Vec<Checked>> {
        self.check(client, &["--bytes", &bytes.to_string()], questions)
    }

    /// Asks one question over and over, each time on a connection of its own, several at once.
    pub fn check_often(&self, client: &PodRecord, question: Question, times: usize) -> Result<Vec<Checked>> {
        self.check(client, &["--bytes", "1", "--at-once", "16", "--times", &times.to_string()], &[question])
    }

    fn check(&self, client: &PodRecord, flags: &[&str], questions: &[Question]) -> Result<Vec<Checked>> {
        let program = self.binaries.find("lab-load")?;
        let mut command = self.pod_place(client)?.command(program);
        command.arg("check").args(flags).args(questions.iter().map(ToString::to_string));
        // It exits with 1 when one did not answer; the lines say which.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let child = crate::nursery::spawn(command)?;
        let output = child.wait_with_output().context("wait for lab-load")?;
        let text = String::from_utf8(output.stdout).context("lab-load prints UTF-8")?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read {line:?}"))).collect()
    }

    pub(super) fn expected_pods(&self) -> Vec<String> {
        self.expected.lock().clone()
    }

    pub(super) fn is_ready(&self, name: &str) -> bool {
        self.pod(name).is_ok_and(|pod| pod.is_ready)
    }
}

/// The one pod that a name means.
pub fn find<'a>(pods: &'a [PodRecord], name: &str) -> Result<&'a PodRecord> {
    let means = |pod: &&PodRecord| {
        let full = format!("{}/{}/{}", pod.cluster, pod.namespace, pod.name);
        pod.name == name || pod.full_name() == name || format!("{}/{}", pod.cluster, pod.name) == name || full == name
    };
    let found: Vec<&PodRecord> = pods.iter().filter(means).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => bail!("there is no pod {name}"),
        several => {
            let names: Vec<String> = several.iter().map(|pod| format!("{}/{}", pod.cluster, pod.full_name())).collect();
            bail!("{name} means several pods: {}", names.join(", "))
        }
    }
}
