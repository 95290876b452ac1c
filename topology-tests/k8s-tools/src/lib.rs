//! Kubernetes' own programs for tests (etcd, kube-apiserver, kubelet, kubectl, CoreDNS, helm, flanneld and so on): built
//! once a machine from the Go module proxy, and kept outside the checkout by name and version.
//!
//! Never part of the product. Finding a program builds nothing: that takes half an hour where Go's caches are cold, and is
//! asked for by name (`cargo xtask k8s-tools`).

mod build;
mod cache;
mod catalogue;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

pub use cache::Cache;
pub use catalogue::{PROGRAMS, Program};

/// What to run where a program is missing.
pub const BUILD_COMMAND: &str = "cargo xtask k8s-tools";

/// All programs, found.
#[derive(Debug, Clone)]
pub struct Tools {
    cache: Cache,
}

impl Tools {
    /// The programs of this machine's cache.
    ///
    /// # Errors
    /// Names those that are missing, and what builds them.
    pub fn find() -> Result<Self> {
        let cache = Cache::of_this_machine()?;
        let missing = missing()?;
        if !missing.is_empty() {
            bail!("not built in {}: {}; build with `{BUILD_COMMAND}`", cache.root().display(), missing.join(", "));
        }
        Ok(Self { cache })
    }

    /// Builds what is missing, with its progress on standard error. What `target/tools` of this workspace holds in the same
    /// version is copied.
    ///
    /// # Errors
    /// Where there is no Go, too little room, too little time, or a build fails.
    pub fn build(workspace: &Path, deadline: Option<Instant>) -> Result<Self> {
        let cache = Cache::of_this_machine()?;
        build::all(&cache, workspace, deadline)?;
        Self::find()
    }

    /// Where a program of [`PROGRAMS`] is.
    ///
    /// # Errors
    /// Where no program has this name.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        match PROGRAMS.iter().find(|program| program.name == name) {
            Some(program) => self.cache.path(program),
            None => bail!("{name} is none of the programs that are built here"),
        }
    }
}

/// The names of the programs that are not built.
///
/// # Errors
/// Where a version cannot be told.
pub fn missing() -> Result<Vec<&'static str>> {
    let cache = Cache::of_this_machine()?;
    let mut missing = Vec::new();
    for program in PROGRAMS {
        if !cache.path(program)?.is_file() {
            missing.push(program.name);
        }
    }
    Ok(missing)
}
