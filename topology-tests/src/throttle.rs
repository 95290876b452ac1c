//! The kernel's throttle of block devices (cgroup v1, `blkio`): one group for each node of a lab that has a slow disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cgroup;
use crate::names::LabName;

const MOUNT: &str = "/sys/fs/cgroup/blkio";
const LIMITS: [&str; 2] = ["blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"];

#[derive(Debug)]
pub(crate) struct Throttle {
    group: PathBuf,
    /// `major:minor`.
    device: String,
}

fn groups(lab: &LabName) -> PathBuf {
    Path::new(MOUNT).join(lab.netns_prefix().trim_end_matches('-'))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {text:?} to {}", file.display()))
}

impl Throttle {
    /// `None` where the kernel, or its mounts, have none.
    pub(crate) fn of(lab: &LabName, node: &str, device: u64) -> Result<Option<Self>> {
        if !Path::new(MOUNT).join("cgroup.procs").exists() {
            return Ok(None);
        }
        let group = groups(lab).join(node);
        cgroup::create(&group)?;
        if LIMITS.iter().any(|limit| !group.join(limit).exists()) {
            return Ok(None);
        }
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        Ok(Some(Self { group, device: format!("{major}:{minor}") }))
    }

    /// So many reads, and as many writes, each second for a process.
    pub(crate) fn set(&self, pid: u32, per_second: u32) -> Result<()> {
        write(&self.group.join("cgroup.procs"), &pid.to_string())?;
        LIMITS.iter().try_for_each(|limit| write(&self.group.join(limit), &format!("{} {per_second}", self.device)))
    }

    pub(crate) fn lift(&self) -> Result<()> {
        // Zero is no limit.
        LIMITS.iter().try_for_each(|limit| write(&self.group.join(limit), &format!("{} 0", self.device)))
    }
}

/// Lifts every limit of a lab: a killed process ends when its last writes have been done.
pub(crate) fn lift_all(lab: &LabName) -> Result<()> {
    for group in cgroup::directories(&groups(lab)) {
        for limit in LIMITS.map(|limit| group.join(limit)) {
            let set = std::fs::read_to_string(&limit).unwrap_or_default();
            for device in set.lines().filter_map(|line| line.split_whitespace().next()) {
                write(&limit, &format!("{device} 0"))?;
            }
        }
    }
    Ok(())
}

/// Removes the groups of a lab whose processes are gone.
pub(crate) fn remove_all(lab: &LabName) -> Result<()> {
    for group in left(lab) {
        std::fs::remove_dir(&group).with_context(|| format!("remove cgroup {}", group.display()))?;
    }
    Ok(())
}

pub(crate) fn left(lab: &LabName) -> Vec<PathBuf> {
    let root = groups(lab);
    if root.exists() { cgroup::directories(&root) } else { Vec::new() }
}
