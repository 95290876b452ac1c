//! Removes everything a lab owns, by name alone, so that any process can do it after any death; and looks for what remains.
//! Never touches what does not carry the lab's name.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cgroup;
use crate::deadline::wait_until;
use crate::names::LabName;
use crate::netns;
use crate::throttle;

/// Kills the lab's processes and removes its namespaces, cgroups and folder. Doing it twice is no error.
pub fn sweep(lab: &LabName) -> Result<()> {
    throttle::lift_all(lab)?;
    let killed = cgroup::remove_all(lab);
    throttle::remove_all(lab)?;
    for name in netns::list(&lab.netns_prefix()) {
        netns::delete(&name)?;
    }
    let state = lab.state_dir();
    if state.exists() {
        std::fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
    }
    if let Some(shared) = state.parent() {
        // Only the last lab's removal succeeds; any other finds it in use, as it should.
        drop(std::fs::remove_dir(shared));
    }
    killed
}

/// What is left of a lab on the machine, one line each. Empty after a complete teardown.
pub fn leftovers(lab: &LabName) -> Vec<String> {
    // A killed process is gone from its cgroup a moment before it is gone from /proc.
    // The same holds for the loop device of a mount that went with its namespace.
    let is_done = || processes(lab).is_empty() && loop_devices(lab).is_empty();
    drop(wait_until("the last processes and devices to go", Duration::from_secs(5), is_done));
    let mut left: Vec<String> = processes(lab);
    left.extend(loop_devices(lab));
    left.extend(throttle::left(lab).into_iter().map(|path| format!("cgroup {}", path.display())));
    left.extend(netns::list(&lab.netns_prefix()).into_iter().map(|name| format!("network namespace {name}")));
    left.extend(cgroup::directories(&lab.cgroup()).into_iter().map(|path| format!("cgroup {}", path.display())));
    left.extend(cgroup::v1::left(lab).into_iter().map(|path| format!("cgroup {}", path.display())));
    left.extend(files(&lab.state_dir()));
    left.extend(mounts(lab));
    left.extend(files(Path::new("/sys/fs/bpf")).into_iter().filter(|path| path.contains("isthmus")));
    left
}

/// Processes in the lab's cgroup, or with its folder on the command line.
fn processes(lab: &LabName) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own_cgroup = format!("/isthmus-lab/{lab}/");
    let state = format!("{}/", lab.state_dir().display());
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        // A zombie has let go of everything: only its entry waits for whoever inherited it.
        if status_line(&entry.path(), "State:").is_some_and(|state| state.starts_with('Z')) {
            continue;
        }
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let cgroups = String::from_utf8_lossy(&read("cgroup")).into_owned();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if cgroups.lines().any(|line| format!("{line}/").contains(&own_cgroup)) || command.contains(&state) {
            found.push(format!("process {pid} {}", command.trim()));
        }
    }
    found
}

/// A line of `/proc/PID/status`, without its name.
fn status_line(process: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(process.join("status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn mounts(lab: &LabName) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let state = lab.state_dir().display().to_string();
    let is_ours = |path: &&str| path.contains(&lab.netns_prefix()) || path.starts_with(&state);
    // Field 5 is the mount point (proc(5)).
    let points = table.lines().filter_map(|line| line.split_whitespace().nth(4));
    points.filter(is_ours).map(|path| format!("mount {path}")).collect()
}

/// Loop devices over a file in the lab's folder.
fn loop_devices(lab: &LabName) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    let state = lab.state_dir();
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(file) = std::fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        if Path::new(file.trim()).starts_with(&state) {
            found.push(format!("device {} over {}", entry.file_name().display(), file.trim()));
        }
    }
    found
}

/// Everything below a path, with its kind.
fn files(root: &Path) -> Vec<String> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let word = if kind.is_socket() { "socket" } else { "file" };
        found.push(format!("{word} {}", entry.path().display()));
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found
}
