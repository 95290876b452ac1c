//! `up`: starts the background process and waits until it says that the lab is ready.

use std::fs::File;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::Up;
use super::snapshot::{Phase, Snapshot};
use crate::binaries::Binaries;
use crate::deadline::wait_for;
use crate::lab::owner;

const READY: Duration = Duration::from_secs(90);

pub(super) fn run(up: &Up) -> Result<ExitCode> {
    let start = Instant::now();
    let name = &up.lab.name;
    if let Some(pid) = owner(&name.state_dir()) {
        bail!("lab {name} is running already (process {pid}); take it down first: lab down --name {name}");
    }
    let binaries = Binaries::beside_this_one()?;
    let logs = binaries.target_dir().join("lab-logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    let log = logs.join(format!("{name}.supervisor.log"));
    let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["supervise", "--name", name.as_str()]);
    if let Some(folder) = &up.manifests {
        command.arg("--manifests").arg(folder);
    } else if let Some(value) = up.example.to_possible_value() {
        command.args(["--example", value.get_name()]);
    }
    command.args(["--encryption", &up.encryption.to_string()]);
    for (flag, is_set) in [("--no-mesh", up.no_mesh), ("--connect", up.connect)] {
        if is_set {
            command.arg(flag);
        }
    }
    let err = out.try_clone().context("share the log")?;
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().context("start the supervisor")?;
    let is_ready = wait_for(&format!("lab {name} to be ready"), READY, || {
        if child.try_wait()?.is_some() {
            return Ok(Some(false));
        }
        // A snapshot of an earlier lab is gone before this one writes its own.
        let snapshot = Snapshot::read(name).ok().filter(|_| owner(&name.state_dir()) == Some(child.id()));
        Ok(snapshot.filter(|snapshot| snapshot.phase == Phase::Ready).map(|_| true))
    });
    match is_ready {
        Ok(true) => {
            eprintln!(
                "lab {name} is up after {:.1} s; its logs: {}",
                start.elapsed().as_secs_f32(),
                logs.join(name.as_str()).display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Ok(false) => bail!("{}", std::fs::read_to_string(&log).unwrap_or_default().trim()),
        Err(late) => {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(child.id()).context("process ids fit in an i32")?),
                nix::sys::signal::Signal::SIGTERM,
            )
            .context("end the supervisor")?;
            Err(late)
        }
    }
}
