//! A load generator that runs inside a pod, seen from outside: its records as they come, its end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::record::{Follower, Record};
use super::{Plan, REQUEST_TIMEOUT};
use crate::place::Place;
use crate::proc::Proc;

#[derive(Debug)]
pub struct Running {
    pub client: String,
    proc: Proc,
    records: Follower,
}

impl Running {
    /// Starts `lab-load` in a pod's place.
    pub fn start(program: &Path, client: &str, place: &Place, plan: &Plan, records: &Path) -> Result<Self> {
        let mut command = place.command(program);
        command.arg("run").args(["--rate", &plan.rate.to_string(), "--long", &plan.long.to_string()]);
        command.args(["--large-every", &plan.large_every.to_string()]).arg("--records").arg(records);
        for target in &plan.targets {
            command.arg("--target").arg(target.to_string());
        }
        let proc = Proc::start(&format!("load in {client}"), command, &records.with_extension("log"))?;
        Ok(Self { client: client.to_owned(), proc, records: Follower::new(records) })
    }

    /// What was written down since the last call. A generator that died is an error: its silence must not count as success.
    pub fn read_new(&mut self) -> Result<Vec<Record>> {
        if let Some(status) = self.proc.exited() {
            bail!("{} ended ({status}): {}", self.proc.name(), self.proc.log_tail(5));
        }
        self.records.read_new()
    }

    /// Ends the load, lets what is in flight finish, and gives the records that are left.
    pub fn stop(mut self) -> Result<Vec<Record>> {
        let status = self.proc.stop(REQUEST_TIMEOUT + Duration::from_secs(3))?;
        if !status.success() {
            bail!("{} failed ({status}): {}", self.proc.name(), self.proc.log_tail(5));
        }
        self.records.read_new()
    }
}
