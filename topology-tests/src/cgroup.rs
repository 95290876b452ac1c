//! The lab's cgroups (v2): one directory per pod, so that a socket hook of one node never sees another's pods, and one kill
//! switch for every process of the lab.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::deadline::wait_for;
use crate::names::LabName;

pub mod v1;

/// Makes a cgroup and its parents.
pub fn create(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("make cgroup {}", path.display()))
}

/// Kills every process below the lab's cgroup and removes all its directories.
pub fn remove_all(lab: &LabName) -> Result<()> {
    remove_tree(&lab.cgroup())?;
    v1::remove_all(lab)?;
    if let Some(shared) = lab.cgroup().parent() {
        // Only the last lab's removal succeeds; any other finds it in use, as it should.
        drop(std::fs::remove_dir(shared));
    }
    Ok(())
}

/// Kills every process of a cgroup and below, then removes it.
pub fn remove_tree(root: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    kill(root)?;
    wait_for(&format!("the processes of {} to end", root.display()), Duration::from_secs(5), || {
        let events = std::fs::read_to_string(root.join("cgroup.events"))?;
        Ok(events.contains("populated 0").then_some(()))
    })?;
    for directory in directories(root) {
        std::fs::remove_dir(&directory).with_context(|| format!("remove cgroup {}", directory.display()))?;
    }
    Ok(())
}

/// Kills every process of a cgroup and below, at once and without a word (SIGKILL).
pub fn kill(root: &Path) -> Result<()> {
    std::fs::write(root.join("cgroup.kill"), "1").with_context(|| format!("kill cgroup {}", root.display()))
}

/// A cgroup and all below it, the deepest first.
pub fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = std::fs::read_dir(root) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(directories(&entry.path()));
            }
        }
        found.push(root.to_owned());
    }
    found
}
