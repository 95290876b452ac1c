//! Programs to publish: optimised, linked with the C library in them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::elf::asks_for_an_interpreter;
use super::{Built, executable};
use crate::images::contents::Program;
use crate::repo::Repo;

pub(super) fn build(repo: &Repo, wanted: &[Program]) -> Result<BTreeMap<&'static str, Built>> {
    let mut built = BTreeMap::new();
    for program in wanted {
        let path = build_one(repo, *program)?;
        // At once: the next ordinary build puts another program there.
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if asks_for_an_interpreter(&bytes).with_context(|| path.display().to_string())? {
            bail!("{} is not static: does this toolchain have the C library's archive (libc6-dev)?", path.display());
        }
        built.insert(program.name, Built { bytes, libraries: Vec::new() });
    }
    Ok(built)
}

/// By `cargo rustc`, which gives its last words to one program alone: the crates that it is made of are any build's.
fn build_one(repo: &Repo, program: Program) -> Result<PathBuf> {
    let mut command = repo.cargo_command();
    command.args(["rustc", "--locked", "--release", "--package", program.package, "--bin", program.name]);
    // Code that is divided otherwise for the next build is another program.
    command.arg("--message-format=json-render-diagnostics").env("CARGO_INCREMENTAL", "0");
    // Names of functions stay, for backtraces; lines would be most of the image.
    command.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=debuginfo"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} does not build", program.name);
    }
    executable(&String::from_utf8_lossy(&output.stdout), program.name)
}
