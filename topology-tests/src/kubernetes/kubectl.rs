//! kubectl as one user of one cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::deadline::wait_for;
use crate::proc;

/// kubectl with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// A command that is to be given its arguments. It knows nothing of the user's own environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", "/nonexistent").arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// What it prints; an error says what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(args);
        proc::output(&format!("kubectl {}", args.join(" ")), command)
    }

    /// `kubectl get ... -o json`.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get", "-o", "json"], args].concat())?;
        serde_json::from_str(&text).context("read what kubectl get printed")
    }

    /// Applies manifests, YAML or JSON. All are applied, or the error names those that were refused.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut command = self.command();
        command.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        proc::output_given("kubectl apply", command, manifests).map(drop)
    }

    /// Waits until a workload's pods are all of its present kind and ready; the error tells how its pods are.
    pub fn rolled_out(&self, namespace: &str, workload: &str, within: Duration) -> Result<()> {
        let seconds = format!("--timeout={}s", within.as_secs());
        let Err(late) = self.run(&["-n", namespace, "rollout", "status", workload, &seconds]) else { return Ok(()) };
        let pods = self.run(&["-n", namespace, "get", "pods", "-o", "wide"]).unwrap_or_default();
        let events = self.run(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]).unwrap_or_default();
        let newest = events.lines().rev().take(8).collect::<Vec<_>>().join("\n");
        Err(late.context(format!("{workload} in {namespace} is not ready:\n{pods}\n{newest}")))
    }

    /// Waits until an object is there.
    pub fn wait_exists(&self, args: &[&str], within: Duration) -> Result<()> {
        wait_for(&format!("{} to exist", args.join(" ")), within, || {
            self.run(&[&["get", "-o", "name"], args].concat()).map(|_| Some(()))
        })
    }

    /// Waits until all nodes (so many) are Ready, and gives how long that took.
    pub fn wait_nodes_ready(&self, count: usize, within: Duration) -> Result<Duration> {
        let start = Instant::now();
        wait_for(&format!("{count} nodes to be Ready"), within, || {
            let nodes = self.get(&["nodes"])?;
            let all = nodes["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            let (ready, unready): (Vec<_>, Vec<_>) = all.iter().partition(|node| has_condition(node, "Ready"));
            if ready.len() == count {
                return Ok(Some(()));
            }
            let names: Vec<&str> = unready.iter().filter_map(|node| node["metadata"]["name"].as_str()).collect();
            bail!("{} Ready; not: {}", ready.len(), names.join(", "))
        })?;
        Ok(start.elapsed())
    }
}

/// Whether an object's condition is `True`.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}
