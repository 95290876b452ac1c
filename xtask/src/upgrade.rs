//! `cargo xtask test-k8s-upgrade`: an upgrade from an earlier commit's chart and images to this one's, and back, under load. The
//! test is in `topology-tests/tests/kubernetes_faults/`; this makes what it starts from, below `target/previous`.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::repo::{self, Repo, succeeds};
use crate::{images, k8s};

const TAG: &str = "previous";
/// Below the build folder: the other commit's own, with its checkout and its images in it.
const PREVIOUS: &str = "previous";
const CHECKOUT: &str = "checkout";
const IMAGES: &str = "images";
const TARGET: &str = "kubernetes_faults";
const TEST: &str = "upgrade";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The commit to upgrade from
    #[arg(long, value_name = "REVISION", default_value = "HEAD^")]
    from: String,
}

pub(crate) fn test(repo: &Repo, options: &Options) -> Result<bool> {
    let previous = repo.target().join(PREVIOUS);
    let checkout = previous.join(CHECKOUT);
    if checkout.exists() {
        std::fs::remove_dir_all(&checkout).with_context(|| format!("cannot remove {}", checkout.display()))?;
    }
    std::fs::create_dir_all(&checkout).with_context(|| format!("cannot make {}", checkout.display()))?;
    let commit = repo::stdout(repo.command("git").args(["rev-parse", "--verify", &options.from]))?;
    eprintln!("upgrading from {}", commit.trim());
    let mut archive = repo.command("git");
    let mut tree = archive.args(["archive", commit.trim()]).stdout(Stdio::piped()).spawn().context("cannot run git")?;
    let out = tree.stdout.take().context("git has no standard output")?;
    let unpacked = succeeds(repo.command("tar").arg("-x").arg("-C").arg(&checkout).stdin(out))?;
    if !unpacked || !tree.wait().context("cannot wait for git")?.success() {
        bail!("{} could not be checked out into {}", options.from, checkout.display());
    }
    images::run(&Repo::elsewhere(checkout, previous), &images::Options::of_another(TAG, IMAGES))?;
    k8s::test(repo, &k8s::Options::only(TARGET, TEST))
}
