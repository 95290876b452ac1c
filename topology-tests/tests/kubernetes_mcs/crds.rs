//! The MCS API's own CRDs, out of the module that CoreDNS is built with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::kubectl::Kubectl;
use topology_tests::proc;

use crate::world::SEEN;

const FILES: [&str; 2] = ["multicluster.x-k8s.io_serviceexports.yaml", "multicluster.x-k8s.io_serviceimports.yaml"];
const MODULE: &str = "sigs.k8s.io/mcs-api";

/// Their files.
pub(crate) fn find() -> Result<Vec<PathBuf>> {
    let mut go = Command::new("go");
    // In the folder whose `go.mod` says which version it is.
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s-tools/coredns"));
    go.args(["mod", "download", "-json", MODULE]);
    let said = proc::output("go mod download", go).context("no CRDs of the MCS API")?;
    let said: Value = serde_json::from_str(&said).context("go names no folder")?;
    let folder = Path::new(said["Dir"].as_str().context("go names no folder")?).join("config/crd");
    let files: Vec<PathBuf> = FILES.iter().map(|file| folder.join(file)).collect();
    for file in &files {
        ensure!(file.is_file(), "no {}", file.display());
    }
    Ok(files)
}

/// Applies them, and waits until the API server serves what they define.
pub(crate) fn install(kubectl: &Kubectl) -> Result<()> {
    for file in find()? {
        kubectl.apply(&std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?)?;
    }
    for resource in ["serviceexports", "serviceimports"] {
        let resource = format!("{resource}.v1beta1.multicluster.x-k8s.io");
        wait_for(&format!("{resource} to be served"), SEEN, || kubectl.run(&["get", &resource, "-A"]).map(Some))?;
    }
    Ok(())
}
