//! cargo-deny: licences, one TLS provider, sources. Installed once into the target folder, at a pinned version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::repo::{Repo, succeeds};

const VERSION: &str = "0.20.2";

/// Why the fourth check of cargo-deny is left out.
pub(crate) const NO_ADVISORIES: &str =
    "advisories: the database is a git repository on the network; run `cargo deny check advisories`";

/// Installs the tool where it is missing. Built without optimisation: it runs for seconds and builds for minutes.
pub(crate) fn ensure_installed(repo: &Repo) -> Result<PathBuf> {
    let root = repo.target().join("tools");
    let program = root.join("bin/cargo-deny");
    let installed = Command::new(&program).arg("--version").output();
    if installed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim().ends_with(VERSION)) {
        return Ok(program);
    }
    let mut install = repo.cargo_command();
    install
        .args(["install", "cargo-deny", "--locked", "--quiet", "--version", VERSION, "--no-default-features", "--root"])
        .arg(&root);
    install.arg("--target-dir").arg(root.join("build"));
    for (setting, value) in
        [("OPT_LEVEL", "0"), ("DEBUG", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("STRIP", "symbols")]
    {
        install.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    eprintln!("xtask: building cargo-deny {VERSION} once into {}", root.display());
    if !succeeds(&mut install)? {
        bail!("cargo-deny {VERSION} does not build; is the registry reachable?");
    }
    // What is left of the build is ten times the tool.
    drop(std::fs::remove_dir_all(root.join("build")));
    Ok(program)
}

pub(crate) fn check(repo: &Repo) -> Result<bool> {
    let program = ensure_installed(repo)?;
    // From the lock file and the crates that the build fetched: nothing is asked of the network.
    succeeds(repo.command(program).args(["--offline", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}
