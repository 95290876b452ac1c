//! The test programs that one build makes, and the groups they are run in.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::repo::Repo;

/// Which stage runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Unit,
    Integration,
    /// Loads every eBPF program into the kernel.
    Verifier,
    /// Whole meshes in the lab, as root; and a kube-apiserver on three replicas, where one was built.
    Scenarios,
    /// Real Kubernetes clusters: the last stage (`kubernetes.rs`).
    Kubernetes,
}

impl Group {
    pub(super) const BEFORE_THE_LAST: [Self; 4] = [Self::Unit, Self::Integration, Self::Verifier, Self::Scenarios];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit tests",
            Self::Integration => "integration tests",
            Self::Verifier => "verifier gate",
            Self::Scenarios => "scenarios",
            Self::Kubernetes => "kubernetes",
        }
    }

    pub(super) fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Self::Unit => 60,
            // Half of it is 1,000 simulated worlds.
            Self::Integration => 330,
            Self::Verifier => 30,
            Self::Scenarios => 630,
            // Most of it is the build of Kubernetes' programs, once a machine.
            Self::Kubernetes => super::kubernetes::COLD.as_secs(),
        })
    }

    /// How long one program may take before it counts as hung.
    pub(super) fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Scenarios | Self::Kubernetes => 900,
            // The first run on a machine builds an etcd.
            Self::Integration => 600,
            Self::Unit | Self::Verifier => 300,
        })
    }

    /// One test at a time: the lab's clusters share the machine's cores, and their times are what is tested.
    pub(super) fn is_serial(self) -> bool {
        matches!(self, Self::Scenarios | Self::Verifier | Self::Kubernetes)
    }
}

/// Tests of `topology-tests` that run whole processes but no lab.
const WITHOUT_LAB: [&str; 4] = ["bench_store", "chart", "differential", "documents"];
/// Those on real Kubernetes clusters begin so.
const ON_KUBERNETES: &str = "kubernetes";

/// A built test program.
#[derive(Debug, Clone)]
pub(super) struct Executable {
    pub(super) path: PathBuf,
    package: PathBuf,
    target: String,
    is_integration: bool,
}

impl Executable {
    pub(super) fn package_folder(&self) -> &Path {
        &self.package
    }

    fn package_name(&self) -> String {
        self.package.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// `package` or `package-target`: a name for people and for the log file.
    pub(super) fn label(&self) -> String {
        let package = self.package_name();
        if self.target.replace('_', "-") == package { package } else { format!("{package}-{}", self.target) }
    }

    /// The name of its target.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn group(&self) -> Group {
        match (self.is_integration, self.package_name().as_str()) {
            (false, _) => Group::Unit,
            (true, "topology-tests") if WITHOUT_LAB.contains(&self.target.as_str()) => Group::Integration,
            (true, "topology-tests") if self.target.starts_with(ON_KUBERNETES) => Group::Kubernetes,
            (true, "topology-tests") => Group::Scenarios,
            (true, "agent-ebpf") => Group::Verifier,
            (true, _) => Group::Integration,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every target of the workspace and says which of them are tests.
pub(super) fn build(repo: &Repo) -> Result<Vec<Executable>> {
    let mut command = repo.cargo_command();
    command.args(["build", "--locked", "--workspace", "--all-targets", "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the workspace does not build");
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(messages: &str) -> Result<Vec<Executable>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("not a message of cargo: {line}"))?;
        let Message {
            reason,
            manifest_path: Some(manifest),
            target: Some(target),
            profile: Some(profile),
            executable: Some(path),
        } = message
        else {
            continue;
        };
        let is_bench = target.kind.iter().any(|kind| kind == "bench");
        if reason != "compiler-artifact" || !profile.test || is_bench {
            continue;
        }
        found.push(Executable {
            path,
            package: manifest.parent().context("a manifest has a folder")?.to_owned(),
            is_integration: target.kind.iter().any(|kind| kind == "test"),
            target: target.name,
        });
    }
    found.sort_by_key(Executable::label);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_are_taken_and_sorted_into_groups() {
        let artifact = |package: &str, target: &str, kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/{package}/Cargo.toml","target":{{"name":"{target}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"/t/{target}"}}"#
            )
        };
        let messages = [
            artifact("mesh-types", "mesh_types", "lib", true),
            artifact("meshctl", "meshctl", "bin", false),
            artifact("meshctl", "against", "test", true),
            artifact("agent-ebpf", "kernel", "test", true),
            artifact("agent-ebpf", "speed", "bench", true),
            artifact("topology-tests", "scenarios", "test", true),
            artifact("topology-tests", "differential", "test", true),
            artifact("topology-tests", "kubernetes_mesh", "test", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found: Vec<_> = parse(&messages.join("\n")).unwrap().iter().map(|e| (e.label(), e.group())).collect();
        assert_eq!(
            found,
            [
                ("agent-ebpf-kernel".to_owned(), Group::Verifier),
                ("mesh-types".to_owned(), Group::Unit),
                ("meshctl-against".to_owned(), Group::Integration),
                ("topology-tests-differential".to_owned(), Group::Integration),
                ("topology-tests-kubernetes_mesh".to_owned(), Group::Kubernetes),
                ("topology-tests-scenarios".to_owned(), Group::Scenarios),
            ]
        );
    }
}
