//! A reader's terminal: commands one after the other, in one folder, with the variables that earlier ones set. Nothing that a
//! command started goes on after it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use topology_tests::deadline::wait_for;

/// Longer than any command of the pages waits by itself.
const LONGEST: Duration = Duration::from_mins(6);
const SCRIPT: &str = ".command";
const OUTPUT: &str = ".output";
const VARIABLES: &str = ".variables";

#[derive(Debug)]
pub(crate) struct Terminal {
    folder: PathBuf,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Came {
    /// -1 for one that was ended.
    pub(crate) code: i32,
    /// Both streams, as a terminal shows them.
    pub(crate) output: String,
    pub(crate) took: Duration,
}

impl Terminal {
    /// In a folder, with these variables and no others.
    pub(crate) fn new(folder: &Path, variables: &[(&str, String)]) -> Result<Self> {
        let terminal = Self { folder: folder.to_owned() };
        let lines: Vec<String> = variables.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        std::fs::write(folder.join(VARIABLES), lines.concat()).context("write the first variables")?;
        Ok(terminal)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: &str) -> Result<Came> {
        // `a && b` does not end the shell where `a` fails: hence the code at the end.
        let script = format!(
            "set -a\n. ./{VARIABLES}\nexec 2>&1\n{command}\nDOCS_CODE=$?\nexport -p >./{VARIABLES}\nexit $DOCS_CODE\n"
        );
        std::fs::write(self.folder.join(SCRIPT), script).context("write the command")?;
        let output = File::create(self.folder.join(OUTPUT)).context("make a file for what it prints")?;
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-euo", "pipefail", SCRIPT]).env_clear().current_dir(&self.folder);
        bash.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).process_group(0);
        let begun = Instant::now();
        let mut running = Running(bash.spawn().context("start a shell")?);
        let ended = wait_for("the command to end", LONGEST, || Ok(running.0.try_wait()?));
        drop(running);
        let bytes = std::fs::read(self.folder.join(OUTPUT)).context("read what it printed")?;
        let mut output = String::from_utf8_lossy(&bytes).into_owned();
        let code = match ended {
            Ok(status) => status.code().unwrap_or(-1),
            Err(late) => {
                let text = format!("\n{late:#}");
                output.push_str(&text);
                -1
            }
        };
        Ok(Came { code, output, took: begun.elapsed() })
    }
}

/// Dropped, the shell and all that it started are gone.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).map(Pid::from_raw);
        match group.map(|group| killpg(group, Signal::SIGKILL)) {
            // Nothing is left of it.
            Ok(Ok(()) | Err(Errno::ESRCH)) | Err(_) => {}
            Ok(Err(error)) => println!("cannot end what a command started: {error}"),
        }
        drop(self.0.wait());
    }
}
