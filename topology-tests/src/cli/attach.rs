//! Verbs on a lab that runs already: they find their way by its snapshot.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::Table;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::snapshot::Snapshot;
use super::{Format, WanVerb};
use crate::deadline::wait_until;
use crate::lab::{owner, pods};
use crate::names::LabName;
use crate::netns;
use crate::place::Place;
use crate::teardown;
use crate::wan::{Fault, Wan};

/// How long a supervisor, and after it the guard, may take to clean up.
const DOWN: Duration = Duration::from_secs(30);

pub(super) fn status(lab: &LabName, format: Format) -> Result<ExitCode> {
    let snapshot = Snapshot::read(lab)?;
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&snapshot).context("encode the snapshot")? + "\n",
        Format::Table => tables(&snapshot),
    };
    std::io::stdout().write_all(text.as_bytes()).context("print the status")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn exec(lab: &LabName, target: &str, words: &[String]) -> Result<ExitCode> {
    let snapshot = Snapshot::read(lab)?;
    let place = place(&snapshot, target)?;
    let (program, args) = words.split_first().context("no command was given")?;
    let mut command = place.command(program);
    for name in ["TERM", "HOME", "LANG"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let status = command.args(args).status().with_context(|| format!("run {program} in {target}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

pub(super) fn kill_pod(lab: &LabName, name: &str) -> Result<ExitCode> {
    let snapshot = Snapshot::read(lab)?;
    let pod = pods::find(&snapshot.pods, name)?;
    let pid = pod.pid.with_context(|| format!("pod {name} does not run"))?;
    signal(pid, Signal::SIGKILL)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn wan(lab: &LabName, verb: &WanVerb) -> Result<ExitCode> {
    let snapshot = Snapshot::read(lab)?;
    let wan = Wan::of(lab, &snapshot.topology);
    match verb {
        WanVerb::Cut { cluster } => wan.cut(cluster)?,
        WanVerb::Loss { cluster, percent } => wan.set_fault(cluster, Fault::Loss(*percent))?,
        WanVerb::Restore { cluster } => wan.restore(cluster)?,
        WanVerb::Reset => wan.reset_counters()?,
        WanVerb::Counters => {
            let counters = wan.counters()?;
            let text = serde_json::to_string(&counters).context("encode the counters")?;
            writeln!(std::io::stdout(), "{text}").context("print the counters")?;
            for line in wan.clear_seen()? {
                eprintln!("clear: {line}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn down(lab: &LabName) -> Result<ExitCode> {
    if let Some(pid) = owner(&lab.state_dir()) {
        signal(pid, Signal::SIGTERM)?;
        wait_until(&format!("process {pid} to end"), DOWN, || !Path::new(&format!("/proc/{pid}")).exists())?;
    }
    // Also when there was no owner: whatever a killed one left.
    teardown::sweep(lab)?;
    let left = teardown::leftovers(lab);
    for line in &left {
        eprintln!("left: {line}");
    }
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn place(snapshot: &Snapshot, target: &str) -> Result<Place> {
    if let Some(node) = snapshot.nodes.get(target) {
        return Ok(node.clone());
    }
    let pod = pods::find(&snapshot.pods, target)?;
    let Some(node) = snapshot.nodes.get(&pod.node) else { bail!("there is no node {}", pod.node) };
    Ok(Place { net: netns::path(&pod.netns), ..node.in_cgroup(&pod.cgroup) })
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).context("process ids fit in an i32")?;
    kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to process {pid}"))
}

fn tables(snapshot: &Snapshot) -> String {
    let mut nodes = plain(&["CLUSTER", "NODE", "ADDRESS", "PODS", "ENTER BY HAND"]);
    for (cluster, node) in snapshot.topology.nodes() {
        let by_hand = snapshot.nodes.get(&node.name).map(Place::by_hand).unwrap_or_default();
        nodes.add_row([&cluster.name, &node.name, &node.ip.to_string(), &node.pod_cidr.to_string(), &by_hand]);
    }
    let mut pods = plain(&["CLUSTER", "NODE", "POD", "ADDRESS", "PID", "READY", "RESTARTS"]);
    for pod in &snapshot.pods {
        let (ip, pid) = (pod.ip.map(|ip| ip.to_string()), pod.pid.map(|pid| pid.to_string()));
        pods.add_row([
            pod.cluster.as_str(),
            &pod.node,
            &pod.full_name(),
            &ip.unwrap_or_else(|| "-".into()),
            &pid.unwrap_or_else(|| "-".into()),
            if pod.is_ready { "yes" } else { "no" },
            &pod.restarts.to_string(),
        ]);
    }
    let mut parts = vec![nodes.to_string(), pods.to_string()];
    if !snapshot.processes.is_empty() {
        let mut processes = plain(&["PROCESS", "PID", "ALIVE"]);
        for process in &snapshot.processes {
            let alive = if process.is_alive { "yes" } else { "no" };
            processes.add_row([process.name.as_str(), &process.pid.to_string(), alive]);
        }
        parts.push(processes.to_string());
    }
    if let Some(config) = &snapshot.meshctl_config {
        parts.push(format!("meshctl --config {} status", config.display()));
    }
    for problem in &snapshot.problems {
        parts.push(format!("problem: {problem}"));
    }
    parts.join("\n\n") + "\n"
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header);
    table
}
