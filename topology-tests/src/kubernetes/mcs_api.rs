//! The MCS API's own definitions, out of the module that CoreDNS is built with. Asks Go where that is; applies nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::proc;

const FILES: [&str; 2] = ["multicluster.x-k8s.io_serviceexports.yaml", "multicluster.x-k8s.io_serviceimports.yaml"];
const FOLDER: &str = "config/crd";
const MODULE: &str = "sigs.k8s.io/mcs-api";

/// The folder of the module, which has the API's repository in it.
pub fn folder() -> Result<PathBuf> {
    let mut go = Command::new("go");
    // In the folder whose `go.mod` says which version it is.
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s-tools/coredns"));
    go.args(["mod", "download", "-json", MODULE]);
    let said = proc::output("go mod download", go).context("no CRDs of the MCS API")?;
    let said: Value = serde_json::from_str(&said).context("go names no folder")?;
    Ok(said["Dir"].as_str().context("go names no folder")?.into())
}

/// Their files.
pub fn definitions() -> Result<Vec<PathBuf>> {
    let folder = folder()?.join(FOLDER);
    let files: Vec<PathBuf> = FILES.iter().map(|file| folder.join(file)).collect();
    for file in &files {
        ensure!(file.is_file(), "no {}", file.display());
    }
    Ok(files)
}
