//! A real kube-apiserver: one that a person names, or one built from the Go module proxy into `target/tools`.
//!
//! Never built by a test: cold it takes a quarter of an hour of two cores and 5 GB of Go's caches.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::go::Go;
use crate::machine::tools_of_this_machine;
use crate::module::required;
use crate::programs::{build, lock};

/// Names a program to use instead of the built one.
const VARIABLE: &str = "ISTHMUS_KUBE_APISERVER";
const NAME: &str = "kube-apiserver";
const PACKAGE: &str = "k8s.io/kubernetes/cmd/kube-apiserver";
const KUBERNETES: &str = "k8s.io/kubernetes";
/// Where kube-apiserver has its version from; without one it refuses to start.
const VERSION_PACKAGES: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// The Go module that all of Kubernetes' programs are built in.
pub fn kubernetes_module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes")
}

/// A kube-apiserver that can be started.
#[derive(Debug, Clone)]
pub struct KubeApiserver {
    pub program: PathBuf,
    /// `Kubernetes v1.37.2`
    pub version: String,
}

impl KubeApiserver {
    /// What the environment names, else what [`Self::build`] has left, else the one of this machine's real clusters (`cargo
    /// xtask k8s-tools`); `None` where there is none of them.
    pub fn find(workspace: &Path) -> Result<Option<Self>> {
        let built = || -> Result<Option<PathBuf>> {
            let version = required(&kubernetes_module(), KUBERNETES)?;
            let kept = tools_of_this_machine().map(|tools| tools.join(format!("kubernetes-{version}")));
            let folders = [Some(folder(workspace)), kept];
            Ok(folders.into_iter().flatten().map(|folder| folder.join(NAME)).find(|program| program.exists()))
        };
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let Some(program) = named.map_or_else(built, |named| Ok(Some(named)))? else { return Ok(None) };
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("run {}, which {VARIABLE} may name", program.display()))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !version.starts_with("Kubernetes ") {
            bail!("{} is no kube-apiserver: asked for its version it said {version:?}", program.display());
        }
        Ok(Some(Self { program, version }))
    }

    /// Builds it, where that has not been done.
    pub fn build(workspace: &Path) -> Result<Self> {
        let module = kubernetes_module();
        let folder = folder(workspace);
        let lock = lock(&folder)?;
        if !folder.join(NAME).exists() {
            let go = Go::find(&module, &workspace.join("target/tools"))?;
            let go = go.with_context(|| {
                format!("there is no Go: install golang-go, or name a kube-apiserver in {VARIABLE}")
            })?;
            let flags = linker_flags(&required(&module, KUBERNETES)?)?;
            let mut command = go.command();
            command.env("CGO_ENABLED", "0");
            build(command, &module, &folder, PACKAGE, NAME, &["-ldflags", &flags])?;
        }
        drop(lock);
        Self::find(workspace)?.with_context(|| format!("{PACKAGE} was built and left no program"))
    }
}

fn folder(workspace: &Path) -> PathBuf {
    workspace.join("target/tools").join(NAME)
}

/// The linker's flags by which Kubernetes' programs know their version.
pub fn linker_flags(version: &str) -> Result<String> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("{version} is no version of Kubernetes");
    };
    let of = |package: &&str| {
        format!(
            " -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
             -X {package}.gitTreeState=clean"
        )
    };
    Ok(format!("-s -w{}", VERSION_PACKAGES.iter().map(of).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_says_which_kubernetes_is_built() {
        let version = required(&kubernetes_module(), KUBERNETES).unwrap();
        assert!(version.starts_with("v1."), "{version}");
        assert!(linker_flags(&version).unwrap().contains(&format!("component-base/version.gitVersion={version} ")));
        assert!(linker_flags("nonsense").is_err());
    }
}
