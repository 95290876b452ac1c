//! `fuzz`: the libFuzzer targets (`mesh-store/fuzz`), built by the pinned compiler and run one after the other.
//!
//! cargo-fuzz asks for a nightly compiler and builds everything again; here only the project's own crates are
//! instrumented, through flags that a stable one takes, and the rest is what the tests use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::repo::{Repo, succeeds};

const TARGETS: [&str; 5] = ["contract", "log", "requests", "snapshot", "txn"];
const PACKAGE: &str = "mesh-store/fuzz";
/// Longest input, most seconds for one, most megabytes.
const LIMITS: [&str; 3] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// contract, log, requests, snapshot or txn; all of them if none is named
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Add to the checked-in corpus what reaches places that it does not, as few and small inputs as will do
    #[arg(long)]
    keep: bool,
}

/// What came of one target.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) target: &'static str,
    pub(crate) executed: u64,
    new: u64,
    /// What to do about the input that broke a rule.
    pub(crate) found: Option<String>,
}

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<bool> {
    if let Some(why) = why_not(repo) {
        bail!("{why}");
    }
    let wanted = |target: &&'static str| options.target.as_deref().is_none_or(|name| name == *target);
    let targets: Vec<_> = TARGETS.into_iter().filter(|target| wanted(target)).collect();
    if targets.is_empty() {
        bail!("there is no target {}\nhint: one of {}", options.target.as_deref().unwrap_or(""), TARGETS.join(", "));
    }
    let runs = run_each(repo, &targets, options.seconds)?;
    println!("{:<10} {:>12} {:>8}  result", "target", "inputs", "new");
    for run in &runs {
        let result = run.found.as_deref().unwrap_or("no rule broke");
        println!("{:<10} {:>12} {:>8}  {result}", run.target, run.executed, run.new);
    }
    if options.keep {
        for target in targets {
            merge(repo, target)?;
        }
    }
    Ok(runs.iter().all(|run| run.found.is_none()))
}

/// Builds the targets and runs each for so long.
pub(crate) fn run_all(repo: &Repo, seconds: u64) -> Result<Vec<Run>> {
    run_each(repo, &TARGETS, seconds)
}

/// Why nothing can be fuzzed here; `None` if it can.
pub(crate) fn why_not(repo: &Repo) -> Option<String> {
    match probe(repo) {
        Ok(None) => None,
        Ok(Some(words)) => Some(format!("this compiler does not instrument for libFuzzer: {words}")),
        Err(error) => Some(format!("no compiler to ask whether it instruments for libFuzzer: {error:#}")),
    }
}

/// What the compiler says against an empty crate with the flags of the targets.
fn probe(repo: &Repo) -> Result<Option<String>> {
    let object = folder(repo, "")?.join("probe.o");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = repo.command(wrapper(repo));
    command.arg(rustc).args(["--crate-name=probe", "--crate-type=lib", "--emit=obj", "-o"]).arg(object).arg("-");
    let output = command.output().context("cannot run the compiler's wrapper")?;
    let words = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it failed").to_owned();
    Ok((!output.status.success()).then_some(words))
}

fn run_each(repo: &Repo, targets: &[&'static str], seconds: u64) -> Result<Vec<Run>> {
    build(repo, targets)?;
    targets.iter().map(|target| run_one(repo, target, seconds)).collect()
}

fn build(repo: &Repo, targets: &[&str]) -> Result<()> {
    let mut command = repo.cargo_command();
    // Own code is unoptimised elsewhere, for the sake of its build; here its speed is what the time buys.
    command.env("RUSTC_WORKSPACE_WRAPPER", wrapper(repo)).env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    command.args(["build", "--locked", "--workspace", "--features", "mesh-store-fuzz/as-tested"]);
    for target in targets {
        command.args(["--bin", target]);
    }
    if !succeeds(&mut command)? {
        bail!("the fuzz targets do not build");
    }
    Ok(())
}

fn run_one(repo: &Repo, target: &'static str, seconds: u64) -> Result<Run> {
    let log = folder(repo, "")?.join(format!("{target}.log"));
    let artifacts = folder(repo, "artifacts")?.join(target);
    let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = fuzzer(repo, target);
    command
        .args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}-", artifacts.display())])
        .args(["-print_final_stats=1", "-verbosity=1"])
        .arg(folder(repo, &format!("corpus/{target}"))?)
        .arg(corpus(repo, target))
        .stdout(Stdio::null())
        .stderr(file);
    let is_sound = succeeds(&mut command)?;
    let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let found = (!is_sound).then(|| found(&text, target, &log));
    Ok(Run {
        target,
        executed: statistic(&text, "number_of_executed_units"),
        new: statistic(&text, "new_units_added"),
        found,
    })
}

/// The input that the fuzzer kept, and what becomes of it.
fn found(text: &str, target: &str, log: &Path) -> String {
    let kept = text.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim());
    kept.map_or_else(
        || format!("stopped without an input, see {}", log.display()),
        |path| {
            format!(
                "an input broke a rule (see {}): copy {path} to {PACKAGE}/corpus/{target}/ and repeat it by \
                 `cargo test -p mesh-store-fuzz`",
                log.display()
            )
        },
    )
}

fn statistic(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

fn merge(repo: &Repo, target: &str) -> Result<()> {
    let mut command = fuzzer(repo, target);
    command.arg("-set_cover_merge=1").arg(corpus(repo, target)).arg(folder(repo, &format!("corpus/{target}"))?);
    if !succeeds(command.stdout(Stdio::null()).stderr(Stdio::null()))? {
        bail!("the finds of {target} cannot be merged into the corpus");
    }
    Ok(())
}

fn fuzzer(repo: &Repo, target: &str) -> Command {
    let mut command = repo.command(repo.target().join("debug").join(target));
    command.args(LIMITS);
    command
}

fn wrapper(repo: &Repo) -> PathBuf {
    repo.root.join(PACKAGE).join("instrumented-rustc")
}

fn corpus(repo: &Repo, target: &str) -> PathBuf {
    repo.root.join(PACKAGE).join("corpus").join(target)
}

/// A folder for what is not checked in.
fn folder(repo: &Repo, name: &str) -> Result<PathBuf> {
    let folder = repo.target().join("fuzz").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str =
        "Done 1234 runs in 7 second(s)\nstat::number_of_executed_units: 1234\nstat::new_units_added:          7\n";

    #[test]
    fn the_counts_are_read_from_the_fuzzers_words() {
        assert_eq!(statistic(OUTPUT, "number_of_executed_units"), 1234);
        assert_eq!(statistic(OUTPUT, "new_units_added"), 7);
        assert_eq!(statistic(OUTPUT, "slowest_unit_time_sec"), 0);
    }

    #[test]
    fn a_find_says_where_the_input_is_and_where_it_goes() {
        let text = "==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='a-'; Test unit written to /t/log-crash-1\n";
        let words = found(text, "log", Path::new("/t/log.log"));
        assert!(words.contains("copy /t/log-crash-1 to mesh-store/fuzz/corpus/log/"), "{words}");
        assert!(found("nothing", "log", Path::new("/t/log.log")).contains("/t/log.log"));
    }

    #[test]
    fn every_target_is_one_of_the_package() {
        let manifest = fs::read_to_string(Repo::find().unwrap().root.join(PACKAGE).join("Cargo.toml")).unwrap();
        let named: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
        let mut named: Vec<_> = named.into_iter().filter_map(|name| name.strip_suffix(".rs\"")).collect();
        named.sort_unstable();
        assert_eq!(named, TARGETS);
    }
}
