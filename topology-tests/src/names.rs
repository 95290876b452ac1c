//! Names of everything a lab owns: namespaces, cgroups, folders. One prefix per lab, so that nothing of another lab, or of
//! the machine, can ever be meant. Never touches the system.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the unified (v2) cgroup hierarchy is mounted on the machine, in the order in which places are tried.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A lab's name: part of every namespace, cgroup and folder that it owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

#[derive(Debug, thiserror::Error)]
#[error("lab name {0:?} is not valid: use 1 to 16 characters of a-z and 0-9")]
pub struct Error(String);

impl LabName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every network namespace of this lab starts with. A name has no dash, so no lab's prefix is another's.
    pub fn netns_prefix(&self) -> String {
        format!("isthmus-{}-", self.0)
    }

    /// The network namespace of a part of the lab: a node, a router, the WAN, a pod.
    pub fn netns(&self, part: &str) -> String {
        format!("{}{part}", self.netns_prefix())
    }

    /// The lab's cgroup; nodes, and in them pods, are directories below it.
    pub fn cgroup(&self) -> PathBuf {
        cgroup_mount().join(self.cgroup_path())
    }

    /// The same below the root of any hierarchy.
    pub fn cgroup_path(&self) -> PathBuf {
        PathBuf::from("isthmus-lab").join(&self.0)
    }

    /// The cgroup of the lab's own processes and of the mesh's: beside the nodes, so that no service translation covers them.
    pub fn system_cgroup(&self) -> PathBuf {
        self.cgroup().join("_system")
    }

    /// Everything the lab keeps on disk while it runs. Short, since Unix socket paths end at 107 bytes; not below /run,
    /// which every node replaces by its own.
    pub fn state_dir(&self) -> PathBuf {
        std::env::temp_dir().join("isthmus-lab").join(&self.0)
    }
}

/// The mount point of cgroup v2.
pub fn cgroup_mount() -> PathBuf {
    let is_unified = |path: &&&str| PathBuf::from(path).join("cgroup.controllers").exists();
    PathBuf::from(CGROUP_MOUNTS.iter().find(is_unified).unwrap_or(&CGROUP_MOUNTS[0]))
}

impl FromStr for LabName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        let fits = (1..=16).contains(&name.len());
        if fits && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error(name.to_owned()))
        }
    }
}

impl TryFrom<String> for LabName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!("demo".parse::<LabName>().is_ok());
        for bad in ["", "Demo", "a-b", "../x", "averyveryverylongname"] {
            let refused = bad.parse::<LabName>().unwrap_err().to_string();
            assert!(refused.contains("is not valid"), "{refused}");
        }
    }

    #[test]
    fn no_lab_owns_the_namespaces_of_another() {
        let (one, other): (LabName, LabName) = ("demo".parse().unwrap(), "demo2".parse().unwrap());
        assert!(!other.netns("a1").starts_with(&one.netns_prefix()));
    }
}
