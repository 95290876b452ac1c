//! `plant`: breaks the store on purpose, one fault at a time, and says which check noticed and how fast.
//!
//! A check that stays green over a planted fault proves nothing when it is green without. The faults are edits of the
//! checkout's own files, undone when each has been tried, so nothing of them is ever in a build that is kept.

mod faults;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::faults::{Check, FAULTS, Fault};
use crate::repo::Repo;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Plant only the faults whose description holds this word
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<bool> {
    let wanted = |fault: &&Fault| options.only.as_ref().is_none_or(|word| fault.what.contains(word.as_str()));
    let mut missed = 0;
    for fault in FAULTS.iter().filter(wanted) {
        let planted = Planted::new(repo, fault)?;
        let tried = attempt(repo, fault.check);
        drop(planted);
        if let Some(time) = tried? {
            println!("planted: {:<60} caught by {} in {:.1} s", fault.what, fault.check.name(), time.as_secs_f64());
        } else {
            missed += 1;
            println!("planted: {:<60} NOT caught by {}", fault.what, fault.check.name());
        }
    }
    Ok(missed == 0)
}

/// How long the check ran until it failed; `None` when it passed. A fault that does not build proves nothing.
fn attempt(repo: &Repo, check: Check) -> Result<Option<Duration>> {
    let mut build = repo.cargo_command();
    build.args(["test", "--locked", "--quiet", "--no-run"]).args(check.target());
    let built = build.output().context("cannot run cargo")?;
    if !built.status.success() {
        bail!("the fault does not build: {}", String::from_utf8_lossy(&built.stderr));
    }
    let mut test = repo.cargo_command();
    test.env("ISTHMUS_DIFFERENTIAL_SHRINK", "0")
        .env("ISTHMUS_SIM_FIRST_FAILURE", "1")
        .args(["test", "--locked", "--quiet"])
        .args(check.target())
        .args(["--", check.filter()]);
    let started = Instant::now();
    let status = test.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cannot run cargo")?;
    Ok((!status.success()).then(|| started.elapsed()))
}

/// A fault that is in its file until this is dropped.
struct Planted {
    file: PathBuf,
    sound: String,
}

impl Planted {
    fn new(repo: &Repo, fault: &Fault) -> Result<Self> {
        let file = repo.root.join(fault.file);
        let sound = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        if sound.matches(fault.sound).count() != 1 {
            bail!("{} does not hold this once, so the fault cannot be planted: {}", file.display(), fault.sound);
        }
        fs::write(&file, sound.replace(fault.sound, fault.broken))
            .with_context(|| format!("write {}", file.display()))?;
        Ok(Self { file, sound })
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.sound) {
            eprintln!(
                "xtask: the planted fault is still in {}: {error}. Undo it: git checkout -- {0}",
                self.file.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_place_in_the_source_as_it_is() {
        let repo = Repo::find().unwrap();
        for fault in FAULTS {
            let text = fs::read_to_string(repo.root.join(fault.file)).unwrap();
            assert_eq!(text.matches(fault.sound).count(), 1, "{}", fault.what);
            assert!(!text.contains(fault.broken) || fault.sound.contains(fault.broken), "{} is planted", fault.what);
        }
    }
}
