//! `chaos`: three replicas as real processes under load, while processes, lines and disks fail. The test is
//! `topology-tests/tests/chaos`; this builds what it starts and passes on for how long and which seed.

use anyhow::{Result, bail};

use crate::repo::{Repo, succeeds};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long faults go on
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Draw faults and load from this seed, as an earlier run printed it; without it, from one that differs from run to run
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(repo: &Repo, options: &Options) -> Result<bool> {
    if !repo.cargo(["build", "--locked", "--workspace", "--bins", "--test", "chaos"])? {
        bail!("the programs do not build");
    }
    let mut test = repo.cargo_command();
    test.args(["test", "--locked", "--workspace", "--test", "chaos", "--", "--nocapture"]);
    test.env("ISTHMUS_CHAOS_SECONDS", options.seconds.to_string());
    let seed = options.seed.unwrap_or_else(|| std::process::id().into());
    test.env("ISTHMUS_CHAOS_SEED", seed.to_string());
    succeeds(&mut test)
}
