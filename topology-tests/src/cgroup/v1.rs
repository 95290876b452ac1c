//! The older hierarchies, one for each controller, where a machine still has them: real kubelets put the limits of their
//! pods there. Every process is in the unified hierarchy as well, and is ended there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::directories;
use crate::names::LabName;

/// A new directory has none of these, and takes no process until it has.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Makes a cgroup, given below the root, in every hierarchy of version 1.
pub fn create(below: &Path) -> Result<()> {
    for root in hierarchies() {
        let mut at = root;
        for part in below {
            let above = at.clone();
            at.push(part);
            std::fs::create_dir_all(&at).with_context(|| format!("make cgroup {}", at.display()))?;
            for file in CPUSET.map(|name| (above.join(name), at.join(name))) {
                let (from, to) = file;
                if from.exists() {
                    let inherited = std::fs::read(&from).with_context(|| format!("read {}", from.display()))?;
                    std::fs::write(&to, inherited).with_context(|| format!("write {}", to.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Removes a lab's directories. Its processes must have ended.
pub fn remove_all(lab: &LabName) -> Result<()> {
    for left in left(lab) {
        std::fs::remove_dir(&left).with_context(|| format!("remove cgroup {}", left.display()))?;
    }
    for root in hierarchies() {
        // Only the last lab's removal succeeds; any other finds it in use, as it should.
        drop(std::fs::remove_dir(root.join("isthmus-lab")));
    }
    Ok(())
}

/// A lab's directories in these hierarchies, the deepest first.
pub fn left(lab: &LabName) -> Vec<PathBuf> {
    hierarchies().into_iter().flat_map(|root| directories(&root.join(lab.cgroup_path()))).collect()
}

/// Where the hierarchies of version 1 are mounted.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut found: Vec<PathBuf> =
        fields.filter(|fields| fields.get(2) == Some(&"cgroup")).map(|fields| fields[1].into()).collect();
    found.sort();
    found.dedup();
    found
}
