//! `test` and `lint`: every check and test in a fixed order, each with its time and budget, counted at the end.
//!
//! ```text
//! bootstrap -> fmt -> layers, orphans, sizes -> clippy -> build -> unit, integration, verifier gate, scenarios
//!           -> fuzz -> doc -> deny -> kubernetes
//! ```
//! Everything is built once: all stages use the dev profile and the whole workspace, so features never differ, and the
//! tests are run as the programs that `build` made.

mod executables;
mod kubernetes;
mod libtest;
mod report;
mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use self::executables::{Executable, Group};
use self::report::Report;
use self::stage::{Outcome, Stage};
use crate::repo::{self, Repo};
use crate::{bootstrap, deny, fuzz, layers, orphans, size};

/// Manifests that nobody here wrote, which one scenario runs; in a folder beside the checkout on the project's machines.
const REAL_MANIFESTS: (&str, &str) = ("ISTHMUS_MANIFESTS", "../shared/data/online-boutique");

/// How long `test` runs each fuzz target.
const SECONDS_A_TARGET: u64 = 7;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out the stages whose name holds this word; may be repeated
    #[arg(long, value_name = "WORD")]
    skip: Vec<String>,
    /// Run only the tests whose name holds this word
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// How long the whole run may take: the last stage, real Kubernetes clusters, is left out where it would not fit (leave it
    /// out always: --skip kubernetes)
    #[arg(long, value_name = "N", default_value_t = 75)]
    minutes: u64,
}

pub(crate) fn test(repo: &Repo, options: &Options) -> bool {
    let mut report = Report::new(&options.skip);
    if !report.gate(Stage { name: "bootstrap", budget: minutes(3) }, bootstrap::run) {
        return report.print();
    }
    checks(repo, &mut report);
    report.gate(Stage { name: "clippy", budget: minutes(7) }, || clippy(repo));
    let mut executables = Vec::new();
    let is_built = report.gate(Stage { name: "build", budget: minutes(9) }, || {
        executables = executables::build(repo)?;
        Ok(true)
    });
    if is_built {
        for group in Group::BEFORE_THE_LAST {
            let stage = Stage { name: group.name(), budget: group.budget() };
            report.tests(stage, || run_group(repo, &executables, group, options.only.as_deref()));
        }
    } else {
        report.note("tests", "not run: the build failed");
    }
    report.tests(Stage { name: "fuzz", budget: minutes(4) }, || short_fuzz(repo));
    report.gate(Stage { name: "doc", budget: minutes(2) }, || doc(repo));
    report.gate(Stage { name: "deny", budget: minutes(4) }, || deny::check(repo));
    report.skip("deny", deny::NO_ADVISORIES);
    if is_built {
        let left = minutes(options.minutes).saturating_sub(report.elapsed());
        let stage = Stage { name: Group::Kubernetes.name(), budget: Group::Kubernetes.budget() };
        report.tests(stage, || kubernetes::run(repo, &executables, left, options.only.as_deref()));
    }
    report.print()
}

pub(crate) fn lint(repo: &Repo) -> bool {
    let mut report = Report::new(&[]);
    checks(repo, &mut report);
    report.gate(Stage { name: "clippy", budget: minutes(7) }, || clippy(repo));
    report.gate(Stage { name: "deny", budget: minutes(4) }, || deny::check(repo));
    report.print()
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What needs no build.
fn checks(repo: &Repo, report: &mut Report) {
    report.gate(Stage { name: "fmt", budget: seconds(30) }, || {
        let ebpf = ["fmt", "--check", "--manifest-path", "agent-ebpf/ebpf/Cargo.toml"];
        Ok(repo.cargo(["fmt", "--all", "--check"])? & repo.cargo(ebpf)?)
    });
    report.gate(Stage { name: "check-layers", budget: seconds(60) }, || {
        Ok(repo::report("check-layers", &layers::check(repo)?))
    });
    report.gate(Stage { name: "check-orphans", budget: seconds(10) }, || {
        Ok(repo::report("check-orphans", &orphans::check(repo)?))
    });
    report.gate(Stage { name: "check-size", budget: seconds(10) }, || {
        Ok(repo::report("check-size", &size::check(repo)?))
    });
}

fn clippy(repo: &Repo) -> Result<bool> {
    repo.cargo(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn doc(repo: &Repo) -> Result<bool> {
    let mut command = repo.cargo_command();
    command.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--locked", "--quiet", "--workspace", "--no-deps"]);
    repo::succeeds(&mut command)
}

/// Long enough to notice a rule that broke near what the corpora reach.
fn short_fuzz(repo: &Repo) -> Result<Outcome> {
    if let Some(why) = fuzz::why_not(repo) {
        return Ok(Outcome { skipped: vec![format!("fuzz: {why}")], ..Outcome::default() });
    }
    let mut outcome = Outcome::default();
    for run in fuzz::run_all(repo, SECONDS_A_TARGET)? {
        eprintln!("fuzz: {} ran {} inputs", run.target, run.executed);
        match run.found {
            None => outcome.passed += 1,
            Some(found) => outcome.failed.push(format!("fuzz {}: {found}", run.target)),
        }
    }
    Ok(outcome)
}

fn run_group(repo: &Repo, all: &[Executable], group: Group, only: Option<&str>) -> Result<Outcome> {
    let mut total = Outcome::default();
    for executable in all.iter().filter(|executable| executable.group() == group) {
        total.add(run_one(repo, executable, only)?);
    }
    Ok(total)
}

fn run_one(repo: &Repo, executable: &Executable, only: Option<&str>) -> Result<Outcome> {
    let (variable, folder) = REAL_MANIFESTS;
    let manifests = std::env::var_os(variable).or_else(|| repo.root.join(folder).is_dir().then(|| folder.into()));
    let group = executable.group();
    let mut command = repo.command(&executable.path);
    command.current_dir(executable.package_folder()).env("CARGO_MANIFEST_DIR", executable.package_folder());
    command.args(only).arg("--show-output");
    if group.is_serial() {
        command.arg("--test-threads=1");
    }
    if let Some(manifests) = &manifests {
        command.env(variable, manifests);
    }
    let log = repo.target().join("test-logs").join(Path::new(&executable.label()).with_extension("log"));
    libtest::run(command, &executable.label(), &log, group.deadline())
}
