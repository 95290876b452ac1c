//! A place where a process of the lab runs: network namespace, mount namespace, cgroup. Turns a program into a command that
//! enters there first (through `lab-node enter`, which also ties its life to the starter's).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The search path inside the lab: CNI plugins call `iptables` by name.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// The `lab-node` program.
    pub launcher: PathBuf,
    pub net: PathBuf,
    pub mnt: Option<PathBuf>,
    pub cgroup: Option<PathBuf>,
}

impl Place {
    /// A command that enters this place and becomes `program`. It starts with an empty environment but for the search path.
    ///
    /// # Invariants
    /// The process dies with the *thread* that starts it: start it from a thread that lives as long as it should.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.launcher);
        command.arg("enter").arg("--parent").arg(std::process::id().to_string()).arg("--net").arg(&self.net);
        if let Some(mnt) = &self.mnt {
            command.arg("--mnt").arg(mnt);
        }
        if let Some(cgroup) = &self.cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        command.env_clear().env("PATH", SEARCH_PATH).arg("--").arg(program.as_ref());
        command
    }

    /// The same node, seen from another cgroup.
    #[must_use]
    pub fn in_cgroup(&self, cgroup: &Path) -> Self {
        Self { cgroup: Some(cgroup.to_owned()), ..self.clone() }
    }

    /// A path of this place as the machine sees it: it may lie on a mount that exists here only.
    pub fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let root =
            self.mnt.as_deref().and_then(Path::parent).and_then(Path::parent).map(|process| process.join("root"));
        match (root, path.strip_prefix("/")) {
            (Some(root), Ok(below)) => root.join(below),
            _ => path.to_owned(),
        }
    }

    /// What to type to look around here by hand.
    pub fn by_hand(&self) -> String {
        let mnt = self.mnt.as_ref().map(|mnt| format!(" --mount={}", mnt.display())).unwrap_or_default();
        format!("nsenter --net={}{mnt}", self.net.display())
    }
}
