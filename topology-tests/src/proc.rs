//! A supervised process of the lab: log file, signals, state, exit. Killed when dropped.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::deadline::wait_for;
use crate::nursery;

/// Of a log's line that is shown in an error.
const LONGEST_LINE: usize = 500;

#[derive(Debug)]
pub struct Proc {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Proc {
    /// Starts a command with both outputs appended to a log file.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log {}", log.display()))?;
        let err = out.try_clone().context("share the log")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = nursery::spawn(command).with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), pid: child.id(), log: log.to_owned(), child: Mutex::new(child) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status, when it has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().ok().flatten()
    }

    pub fn is_alive(&self) -> bool {
        self.exited().is_none()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&self) -> Result<()> {
        let mut child = self.child.lock();
        child.kill().with_context(|| format!("kill {}", self.name))?;
        child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.exited().is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid).context("process ids fit in an i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// SIGTERM, and waits for the end; SIGKILL when it takes longer than `within`.
    pub fn stop(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(within).or_else(|late| {
            self.kill9()?;
            Err(late)
        })
    }

    /// Waits for the process to end by itself.
    pub fn wait(&self, within: Duration) -> Result<ExitStatus> {
        wait_for(&format!("{} to end", self.name), within, || Ok(self.exited()))
    }

    /// Waits for a condition while the process lives; an early end fails at once, with the end of the log.
    pub fn wait_ready(&self, what: &str, within: Duration, mut fact: impl FnMut() -> bool) -> Result<()> {
        let outcome = wait_for(what, within, || Ok(if fact() { Some(true) } else { self.exited().map(|_| false) }));
        match outcome {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} ended before {what}; its log ends with:\n{}", self.name, self.log_tail(6)),
            Err(late) => Err(late.context(format!("{}; its log ends with:\n{}", self.name, self.log_tail(6)))),
        }
    }

    /// The last lines of the log, each cut to what a person reads.
    pub fn log_tail(&self, lines: usize) -> String {
        let text =
            std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let all: Vec<String> = text.lines().map(|line| line.chars().take(LONGEST_LINE).collect()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let mut child = self.child.lock();
        if child.try_wait().ok().flatten().is_none() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Runs a command to its end and gives its standard output; anything but success is an error with what it said.
pub fn output(what: &str, mut command: Command) -> Result<String> {
    command.stdin(Stdio::null());
    finish(what, command, None)
}

/// The same for a command that reads `input` from its standard input.
pub fn output_given(what: &str, mut command: Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped());
    finish(what, command, Some(input))
}

fn finish(what: &str, mut command: Command, input: Option<&str>) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nursery::spawn(command).with_context(|| format!("run {what}"))?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // One that ends without reading all has said why, below.
        drop(pipe.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {what}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let err = String::from_utf8_lossy(&output.stderr);
        bail!("{what} failed ({}): {}", output.status, format!("{}\n{}", err.trim(), out.trim()).trim());
    }
    Ok(out)
}
