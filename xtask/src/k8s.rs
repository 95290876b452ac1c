//! Real Kubernetes clusters: the programs that they are made of, the tests on them, and some that stay for a person. The
//! tests are the targets `kubernetes*` of `topology-tests`; this builds what they start.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::repo::{self, Repo, succeeds};
use crate::{bootstrap, images, lab};

/// The tests that are in every run of `make test`, where clusters can be had.
pub(crate) const EVERY_RUN: [&str; 1] = ["kubernetes_mesh"];
/// Those of `make test-k8s`. What takes longer still has a command of its own.
const ALL: [&str; 2] = ["kubernetes", "kubernetes_mesh"];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run only the tests whose name holds this word
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Only this target of topology-tests; may be repeated
    #[arg(long = "test", value_name = "TARGET")]
    tests: Vec<String>,
}

impl Options {
    pub(crate) fn only(target: &str, test: &str) -> Self {
        Self { only: Some(test.to_owned()), tests: vec![target.to_owned()] }
    }
}

/// The program that finds and builds Kubernetes' own, as a build of the workspace made it.
pub(crate) struct Tools<'a> {
    repo: &'a Repo,
    program: PathBuf,
}

impl<'a> Tools<'a> {
    pub(crate) fn of(repo: &'a Repo) -> Self {
        Self { repo, program: repo.target().join("debug/k8s-tools") }
    }

    /// The names of what is not built.
    pub(crate) fn missing(&self) -> Result<Vec<String>> {
        let said = repo::stdout(self.repo.command(&self.program).arg("--missing"))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Builds what is missing, with its progress shown; whether all is there then.
    pub(crate) fn build(&self, within: Option<Duration>) -> Result<bool> {
        let mut command = self.repo.command(&self.program);
        if let Some(within) = within {
            command.args(["--within", &within.as_secs().to_string()]);
        }
        succeeds(&mut command)
    }
}

/// Builds what is missing, and prints where each program is.
pub(crate) fn tools(repo: &Repo) -> Result<bool> {
    repo.cargo(["run", "--locked", "--quiet", "--package", "k8s-tools"])
}

/// `lab k8s` with these arguments.
pub(crate) fn by_hand(repo: &Repo, args: Vec<OsString>) -> Result<bool> {
    if args.first().is_some_and(|verb| verb == "up") {
        bootstrap::run()?;
        if !tools(repo)? {
            bail!("Kubernetes' programs could not be built");
        }
    }
    lab::lab(repo, &[vec!["k8s".into()], args].concat())
}

pub(crate) fn test(repo: &Repo, options: &Options) -> Result<bool> {
    bootstrap::run()?;
    let wanted: Vec<&str> = match &options.tests[..] {
        [] => ALL.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let targets: Vec<&str> = wanted.iter().flat_map(|target| ["--test", target]).collect();
    let mut build = repo.cargo_command();
    if !succeeds(build.args(["build", "--locked", "--workspace", "--bins"]).args(&targets))? {
        bail!("the programs do not build");
    }
    if !Tools::of(repo).build(None)? {
        bail!("Kubernetes' programs could not be built");
    }
    images::run(repo, &images::Options::for_tests())?;
    let mut test = repo.cargo_command();
    test.args(["test", "--locked", "--workspace"]).args(&targets).arg("--").args(&options.only);
    // One at a time: the clusters share the machine's cores, and their times are printed.
    succeeds(test.args(["--nocapture", "--test-threads=1"]))
}
