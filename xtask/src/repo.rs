//! The checkout: its root, its source files, and the cargo that builds it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A checkout of the project.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    /// Where cargo builds, when not where it would by itself.
    target: Option<PathBuf>,
}

impl Repo {
    /// The checkout that this program was started in; the one it was built in otherwise.
    pub(crate) fn find() -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = package.parent().context("xtask has no parent folder")?.to_owned();
        if !root.join("Cargo.toml").is_file() {
            bail!("{} is not a checkout: run it as `cargo xtask`", root.display());
        }
        Ok(Self { root, target: None })
    }

    /// Another checkout, with a folder of its own to build into. In one folder both would share what build scripts made: the
    /// packages have the same names and places in both, and cargo tells them apart by nothing else.
    pub(crate) fn elsewhere(root: PathBuf, target: PathBuf) -> Self {
        Self { root, target: Some(target) }
    }

    /// A command of this cargo in the root, without input.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        // What cargo told this program about its own package would mislead the next one.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST") {
                command.env_remove(name);
            }
        }
        command
    }

    pub(crate) fn cargo_command(&self) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        if let Some(target) = &self.target {
            command.env("CARGO_TARGET_DIR", target);
        }
        command
    }

    /// Runs cargo with its output shown; whether it succeeded.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<bool> {
        succeeds(self.cargo_command().args(args))
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        if let Some(target) = &self.target {
            return target.clone();
        }
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// All files with this extension, relative to the root, sorted; build output and hidden folders left out.
    pub(crate) fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        walk(&self.root, extension, &mut found)?;
        let relative = |path: PathBuf| path.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(path);
        let mut found: Vec<_> = found.into_iter().map(relative).collect();
        found.sort();
        Ok(found)
    }
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                walk(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// Runs a command with its output shown; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    Ok(status.success())
}

/// What a command writes to stdout; an error holds its stderr.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} does not write text"))
}

/// Prints a check's findings; whether there were none.
pub(crate) fn report(check: &str, findings: &[String]) -> bool {
    for finding in findings {
        eprintln!("{check}: {finding}");
    }
    findings.is_empty()
}
