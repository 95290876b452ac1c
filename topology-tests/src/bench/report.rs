//! The frame of every benchmark file: what was measured, on what, when.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

/// A benchmark's results with where they come from. `results` is flattened into the same object.
#[derive(Debug, Serialize)]
pub struct Report<T> {
    /// The commit that was measured, with `-dirty` when the tree had changes.
    pub commit: String,
    pub kernel: String,
    pub cpu: String,
    /// RFC 3339, UTC.
    pub date: String,
    #[serde(flatten)]
    pub results: T,
}

impl<T: Serialize> Report<T> {
    pub fn new(results: T) -> Self {
        Self { commit: commit(), kernel: kernel(), cpu: cpu(), date: jiff::Timestamp::now().to_string(), results }
    }

    /// Writes the file, with its folder if it is missing.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("encode the report")?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    match output {
        Ok(o) if o.status.success() => String::from_utf8_lossy(&o.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).map(|l| l.trim_start_matches([' ', '\t', ':']));
    let cores = info.lines().filter(|l| l.starts_with("processor")).count();
    format!("{} x {cores}", model.unwrap_or("unknown"))
}
