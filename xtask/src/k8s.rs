//! Real Kubernetes clusters: the programs that they are made of, the tests on them, and some that stay for a person. The
//! tests are `topology-tests/tests/kubernetes.rs`, `kubernetes_mesh/` and `mcs/`; this builds what they start.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::repo::{Repo, succeeds};
use crate::{bootstrap, images, lab};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run only the tests whose name holds this word
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
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
    if !tools(repo)? {
        bail!("Kubernetes' programs could not be built");
    }
    // Before the ordinary build, which then puts its own programs where these were made.
    images::run(repo, &images::Options::for_tests())?;
    let tests = ["--test", "kubernetes", "--test", "kubernetes_mesh", "--test", "mcs"];
    let mut build = repo.cargo_command();
    if !succeeds(build.args(["build", "--locked", "--workspace", "--bins"]).args(tests))? {
        bail!("the programs do not build");
    }
    let mut test = repo.cargo_command();
    test.args(["test", "--locked", "--workspace"]).args(tests).arg("--").args(&options.only);
    // One at a time: the clusters share the machine's cores, and their times are printed.
    succeeds(test.args(["--nocapture", "--test-threads=1"]))
}
