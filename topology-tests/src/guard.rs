//! The lab's last will: a process of its own that tears the lab down when the owner is gone without having done so (Ctrl-C,
//! a panic that aborts, SIGKILL). It notices by the end of a pipe that only the owner holds.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

use crate::binaries::Binaries;
use crate::names::LabName;

#[derive(Debug)]
pub struct Guard {
    child: Child,
    will: ChildStdin,
}

impl Guard {
    pub fn start(binaries: &Binaries, lab: &LabName) -> Result<Self> {
        let mut child = Command::new(binaries.find("lab-node")?)
            .args(["guard", lab.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("start the lab's guard")?;
        let will = child.stdin.take().context("the guard has no standard input")?;
        Ok(Self { child, will })
    }

    /// Tells the guard that the teardown is done, and waits for its end.
    pub fn dismiss(mut self) -> Result<()> {
        self.will.write_all(b"done\n").context("dismiss the guard")?;
        drop(self.will);
        self.child.wait().context("wait for the guard")?;
        Ok(())
    }
}
