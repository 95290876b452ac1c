//! The helm program: where it is, and its command lines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::Access;

/// Names another program than PATH's.
const VARIABLE: &str = "MESHCTL_HELM";

#[derive(Debug, Clone)]
pub(super) struct Helm {
    program: PathBuf,
}

/// What is done with which release.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action<'a> {
    Install { chart: &'a Path },
    Upgrade { chart: &'a Path },
    Uninstall,
}

/// The rest of a command line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) access: &'a Access,
    pub(super) release: &'a str,
    pub(super) namespace: &'a str,
    /// Files, the later over the earlier, and single values over both.
    pub(super) values: &'a [PathBuf],
    pub(super) set: &'a [String],
    pub(super) is_dry: bool,
}

impl Helm {
    /// Refuses by name where there is none.
    pub(super) fn find() -> Result<Self, Failure> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        if let Some(program) = &named
            && !program.is_file()
        {
            return Err(Failure::said(Exit::Usage, VARIABLE, format!("{} is no file", program.display())));
        }
        let in_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|program| program.is_file())
        };
        named.or_else(in_path).map(|program| Self { program }).ok_or_else(|| {
            Failure::said(Exit::Failed, "helm", "there is no program helm in PATH, and nothing else renders its templates")
                .hint(format!(
                    "install Helm (helm.sh/docs/intro/install), or name it in {VARIABLE}; without it: `helm template` where \
                     there is one, and `meshctl install --manifests FILE` here"
                ))
        })
    }

    /// Runs it, with its words on standard error; the error says that it failed.
    pub(super) async fn run(&self, action: Action<'_>, options: &Options<'_>) -> Result<(), Failure> {
        let words = words(action, options);
        let mut command = Command::new(&self.program);
        command.args(&words).stdin(Stdio::null()).stdout(std::io::stderr()).kill_on_drop(true);
        let failed = |text: String| Failure::said(Exit::Failed, "helm", text);
        let status = command.status().await.map_err(|error| failed(format!("{}: {error}", self.program.display())))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(format!("it ended with {status}"))
            .hint("what it said is above; `meshctl check` names what keeps a cluster from it"))
    }
}

/// A command line without secrets: values are files, and what is set is the user's own words.
fn words(action: Action<'_>, options: &Options<'_>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |all: &[&str]| words.extend(all.iter().map(OsString::from));
    let (verb, chart) = match action {
        Action::Install { chart } => ("install", Some(chart)),
        Action::Upgrade { chart } => ("upgrade", Some(chart)),
        Action::Uninstall => ("uninstall", None),
    };
    add(&[verb, options.release]);
    if let Some(chart) = chart {
        words.push(chart.into());
    }
    let mut add = |all: &[&str]| words.extend(all.iter().map(OsString::from));
    add(&["--namespace", options.namespace, "--kube-context", &options.access.context]);
    match action {
        // What was set stays, and values that are new have their defaults.
        Action::Upgrade { .. } => add(&["--reset-then-reuse-values"]),
        // The hook cleans every node.
        Action::Uninstall => add(&["--timeout", "10m"]),
        Action::Install { .. } => {}
    }
    if options.is_dry {
        add(if chart.is_some() { &["--dry-run=server"] } else { &["--dry-run"] });
    }
    for set in options.set {
        add(&["--set", set]);
    }
    for file in options.values {
        words.push("--values".into());
        words.push(file.into());
    }
    if let Some(file) = &options.access.kubeconfig {
        words.push("--kubeconfig".into());
        words.push(file.into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_the_cluster_and_the_values_in_their_order() {
        let access = Access { kubeconfig: Some("/k".into()), context: "kind-a".to_owned(), namespace: None };
        let values = [PathBuf::from("/found"), PathBuf::from("/mine")];
        let set = ["a.b=c".to_owned()];
        let options =
            Options { access: &access, release: "isthmus", namespace: "m", values: &values, set: &set, is_dry: true };
        let line = |action| {
            let words = words(action, &options);
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line(Action::Install { chart: Path::new("/c") }),
            "install isthmus /c --namespace m --kube-context kind-a --dry-run=server --set a.b=c --values /found --values \
             /mine --kubeconfig /k"
        );
        assert!(line(Action::Upgrade { chart: Path::new("/c") }).contains("--reset-then-reuse-values"));
        assert!(line(Action::Uninstall).starts_with("uninstall isthmus --namespace m"));
    }
}
