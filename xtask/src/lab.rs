//! The lab, the demo and the benchmarks: builds their programs once, then becomes them.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bootstrap;
use crate::repo::{Repo, succeeds};

pub(crate) fn demo(repo: &Repo, args: &[OsString]) -> Result<bool> {
    bootstrap::run()?;
    let lab = build(repo)?;
    become_program(Command::new(lab).current_dir(&repo.root).arg("demo").args(args))
}

pub(crate) fn lab(repo: &Repo, args: &[OsString]) -> Result<bool> {
    let lab = build(repo)?;
    become_program(Command::new(lab).current_dir(&repo.root).args(args))
}

/// All members in one command, in the profile of the tests: another choice of packages or profile would have other
/// features, and build their dependencies again.
fn build(repo: &Repo) -> Result<PathBuf> {
    if !repo.cargo(["build", "--locked", "--workspace", "--bins"])? {
        bail!("the programs do not build");
    }
    Ok(repo.target().join("debug/lab"))
}

/// The lab must see Ctrl-C itself and clean up: no process of ours stays in between.
fn become_program(command: &mut Command) -> Result<bool> {
    let program = command.get_program().display().to_string();
    Err(command.exec()).with_context(|| format!("cannot run {program}"))
}

/// One area of measurement.
struct Area {
    name: &'static str,
    program: &'static str,
    args: fn(&str) -> Vec<String>,
}

const AREAS: [Area; 4] = [
    Area { name: "datapath", program: "examples/datapath_bench", args: |out| vec![format!("{out}/datapath.json")] },
    Area {
        name: "convergence",
        program: "lab-bench",
        args: |out| ["--out", out, "convergence"].map(str::to_owned).into(),
    },
    Area { name: "store", program: "lab-bench", args: |out| ["--out", out, "store"].map(str::to_owned).into() },
    Area {
        name: "federation",
        program: "lab-bench",
        args: |out| ["--out", out, "federation"].map(str::to_owned).into(),
    },
];

/// What the areas run, `lab-bench` by itself and in its labs.
const PROGRAMS: [&str; 9] = [
    "lab-bench",
    "lab-node",
    "lab-workload",
    "lab-load",
    "mesh-mock",
    "mesh-apiserver",
    "node-agent",
    "mesh-tunnel",
    "meshctl",
];

/// All areas, or the one that the first argument names (the rest is passed on to it).
pub(crate) fn bench(repo: &Repo, args: &[OsString]) -> Result<bool> {
    let (wanted, rest) = match args.split_first() {
        Some((name, rest)) => (Some(name.to_string_lossy().into_owned()), rest),
        None => (None, &[][..]),
    };
    let areas: Vec<&Area> =
        AREAS.iter().filter(|area| wanted.as_deref().is_none_or(|name| name == area.name)).collect();
    if areas.is_empty() {
        let names: Vec<_> = AREAS.iter().map(|area| area.name).collect();
        bail!("there is no area {}\nhint: one of {}", wanted.unwrap_or_default(), names.join(", "));
    }
    bootstrap::run()?;
    // Each program is optimised as a whole at its end, which takes minutes: only those that run here.
    let programs = PROGRAMS.iter().flat_map(|program| ["--bin", program]);
    let build = [
        "build",
        "--locked",
        "--release",
        "--workspace",
        "--exclude",
        "mesh-store-fuzz",
        "--example",
        "datapath_bench",
    ];
    if !repo.cargo(build.into_iter().chain(programs))? {
        bail!("the programs do not build");
    }
    let out = repo.target().join("bench");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let out = out.to_str().context("the target folder's name is not text")?;
    let mut is_well = true;
    for area in areas {
        eprintln!("\nbench: {}", area.name);
        let mut command = repo.command(repo.target().join("release").join(area.program));
        is_well &= succeeds(command.args((area.args)(out)).args(rest))?;
    }
    Ok(is_well)
}
