//! Which pages' commands are run, in which order, and which pages are left out and why. One that is in neither list fails a test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::Wrong;
use super::markdown::{Block, blocks};
use super::steps::{Step, steps};

/// In the order in which a newcomer needs them; each goes on where the one before ended. The README is a way of its own, and
/// ends as it began.
pub const RUN: [&str; 13] = [
    "README.md",
    "docs/guide/install.md",
    "docs/meshctl-kubernetes.md",
    "docs/guide/connect.md",
    "docs/kubernetes.md",
    "docs/guide/expose.md",
    "docs/guide/failover.md",
    "docs/services.md",
    "docs/health.md",
    "docs/mcs.md",
    "docs/guide/troubleshooting.md",
    "docs/guide/upgrade.md",
    "docs/guide/uninstall.md",
];

/// Pages with blocks of commands that a run on two clusters is not about.
pub const LEFT_OUT: [(&str, &str); 4] = [
    ("docs/certificates.md", "a rotation of the CA has scenarios of its own"),
    ("docs/kubernetes-tests.md", "it is about the project's own tests"),
    ("docs/store-operations.md", "it is about replicas on machines, not in Kubernetes"),
    ("docs/users.md", "it signs certificates with openssl for other programs on the store"),
];

/// A page whose commands are run.
#[derive(Debug, Clone)]
pub struct Page {
    /// Below the checkout.
    pub name: String,
    pub blocks: Vec<(Block, Vec<Step>)>,
}

impl Page {
    /// Every block of it, as commands; one that is not run is read all the same.
    pub fn read(name: &str) -> Result<Self> {
        let text = text(name)?;
        let read = || -> Result<Vec<(Block, Vec<Step>)>, Wrong> {
            blocks(&text)?.into_iter().map(|block| steps(&block).map(|steps| (block, steps))).collect()
        };
        let all = read().with_context(|| name.to_owned())?;
        Ok(Self { name: name.to_owned(), blocks: all })
    }
}

/// The pages that are run, in order.
pub fn to_run() -> Result<Vec<Page>> {
    RUN.iter().map(|name| Page::read(name)).collect()
}

/// The README and every page of `docs` and `docs/guide`, decisions and machine-read folders aside.
pub fn all() -> Result<Vec<String>> {
    let mut found = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/guide"] {
        let entries = std::fs::read_dir(root().join(folder)).with_context(|| format!("list {folder}"))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    ensure!(found.len() > RUN.len(), "pages are missing: {found:?}");
    found.sort();
    Ok(found)
}

/// The text of a page.
pub fn text(name: &str) -> Result<String> {
    let path = root().join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("..")).to_owned()
}
