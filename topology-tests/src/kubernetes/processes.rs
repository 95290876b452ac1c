//! The processes of a node's pods, found from outside by what the kernel says of them: to kill one, or to run a program in
//! the place of a pod. Asks neither the container runtime nor an API server, which may be down just then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Kubernetes;
use super::node::Node;
use crate::binaries::Binaries;
use crate::cgroup;
use crate::deadline::wait_for;
use crate::load::check::{Checked, Question};
use crate::names::cgroup_mount;
use crate::nursery;
use crate::place::Place;

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// The kernel's name of it: the program's, its first 15 characters.
    pub name: String,
}

impl Kubernetes {
    /// What runs in the pods of a node.
    pub fn processes(&self, node: &Node) -> Vec<Process> {
        let mut found = Vec::new();
        for group in cgroup::directories(&self.name.cgroup().join(node.name())) {
            // One that is gone since the folder was read has no process either.
            let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|pid| process(pid.parse().ok()?)));
        }
        found
    }

    /// The one process of a name on a node.
    pub fn process(&self, node: &Node, name: &str) -> Result<Process> {
        let mut named = self.processes(node).into_iter().filter(|process| process.name == name);
        let first = named.next().with_context(|| format!("no pod of {} runs {name}", node.name()))?;
        if named.next().is_some() {
            bail!("several pods of {} run {name}", node.name());
        }
        Ok(first)
    }

    /// SIGKILL to the one process of a name, and waits until it is gone. Its kubelet starts it again.
    pub fn kill_process(&self, node: &Node, name: &str) -> Result<()> {
        let process = self.process(node, name)?;
        self.end(node, &process)
    }

    /// The same where several pods of the node may run it: the one of this pod, which the runtime names in `HOSTNAME`.
    pub fn kill_process_of(&self, node: &Node, pod: &str, name: &str) -> Result<()> {
        let is_it = |process: &Process| process.name == name && has_variable(process.pid, &format!("HOSTNAME={pod}"));
        let process = self.processes(node).into_iter().find(is_it);
        self.end(node, &process.with_context(|| format!("pod {pod} on {} runs no {name}", node.name()))?)
    }

    fn end(&self, node: &Node, process: &Process) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(process.pid).context("process ids fit in an i32")?);
        kill(pid, Signal::SIGKILL).with_context(|| format!("kill {} of {}", process.name, node.name()))?;
        wait_for(&format!("{} of {} to be gone", process.name, node.name()), GONE, || {
            Ok((!self.processes(node).contains(process)).then_some(()))
        })
    }

    /// Where a pod's process is: its network namespace and its cgroup. The pod's container says its pod's name in `POD`.
    pub fn pod_place(&self, node: &Node, pod: &str) -> Result<Place> {
        let said = format!("POD={pod}");
        let process = self.processes(node).into_iter().find(|process| has_variable(process.pid, &said));
        let pid = process.with_context(|| format!("no process of pod {pod} on {}", node.name()))?.pid;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).context("read a process's cgroup")?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).context("no unified cgroup")?;
        let launcher = Binaries::beside_this_one()?.find("lab-node")?;
        let net = PathBuf::from(format!("/proc/{pid}/ns/net"));
        Ok(Place { launcher, net, mnt: None, cgroup: Some(cgroup_mount().join(group)) })
    }
}

/// Asks each once, at a place; an answer or an error for each.
pub fn check_from(place: &Place, questions: &[Question]) -> Result<Vec<Checked>> {
    let mut command = place.command(Binaries::beside_this_one()?.find("lab-load")?);
    command.arg("check").args(["--at-once", "8"]).args(questions.iter().map(ToString::to_string));
    // It exits with 1 when one did not answer; the lines say which.
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let output = nursery::spawn(command)?.wait_with_output().context("wait for lab-load")?;
    let text = String::from_utf8(output.stdout).context("lab-load prints UTF-8")?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read {line:?}"))).collect()
}

fn has_variable(pid: u32, wanted: &str) -> bool {
    // One that is gone has none.
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

fn process(pid: u32) -> Option<Process> {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm")).ok()?;
    Some(Process { pid, name: name.trim_end().to_owned() })
}
