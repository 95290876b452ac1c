//! Builds programs into the cache: one builder at a time, with its progress shown, under the final name only when whole.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_peer::Go;

use crate::cache::Cache;
use crate::catalogue::{PROGRAMS, Program};

/// Less than this (bytes) is not begun with: cold, the caches of Go and the programs together take 12 GB at most.
const ROOM: u64 = 6 << 30;
/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_secs(15);
/// Of a failed build's output.
const SHOWN_LINES: usize = 30;

/// Programs that the tests of the store have built, by their names below `target/tools`.
const BUILT_ELSEWHERE: [(&str, &str); 3] =
    [("kube-apiserver", "kube-apiserver/kube-apiserver"), ("etcd", "etcd-peer/etcd"), ("etcdctl", "etcd-peer/etcdctl")];

pub(crate) fn all(cache: &Cache, workspace: &Path) -> Result<()> {
    let _one_at_a_time = etcd_peer::lock(cache.root())?;
    let mut wanted = Vec::new();
    for program in PROGRAMS {
        if !cache.path(program)?.is_file() && !taken_over(cache, program, workspace)? {
            wanted.push(program);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let free = free_bytes(cache.root())?;
    if free < ROOM {
        bail!(
            "{} has {} MiB free, and a build may take 12 GiB with Go's caches\n\
             hint: make room, or name a folder on another disk in ISTHMUS_TOOLS (and GOCACHE, GOMODCACHE)",
            cache.root().display(),
            free >> 20
        );
    }
    for (n, program) in wanted.iter().enumerate() {
        eprintln!("{} {}: {} of {}", program.name, program.version()?, n + 1, wanted.len());
        build(cache, program).with_context(|| format!("build {}", program.name))?;
    }
    Ok(())
}

/// Copies a program of the same version that was built for other tests.
fn taken_over(cache: &Cache, program: &Program, workspace: &Path) -> Result<bool> {
    let Some((_, place)) = BUILT_ELSEWHERE.iter().find(|(name, _)| *name == program.name) else { return Ok(false) };
    let built = workspace.join("target/tools").join(place);
    let version = program.version()?;
    let asked = if program.name == "etcdctl" { "version" } else { "--version" };
    let said = Command::new(&built).arg(asked).stdin(Stdio::null()).output();
    let is_same = said.is_ok_and(|said| {
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.split_whitespace().any(|word| word.trim_start_matches('v') == version.trim_start_matches('v'))
    });
    if is_same {
        publish(cache, program, |partial| {
            std::fs::copy(&built, partial).with_context(|| format!("copy {}", built.display())).map(drop)
        })?;
        eprintln!("{} {version}: copied from {}", program.name, built.display());
    }
    Ok(is_same)
}

fn build(cache: &Cache, program: &Program) -> Result<()> {
    let module = program.source.folder();
    let go = Go::find(&module, cache.root())?.context("there is no Go: install golang-go")?;
    let flags = program.linker_flags()?;
    publish(cache, program, |partial| {
        let mut command = go.command();
        command.args(["build", "-v", "-mod=readonly", "-trimpath", "-ldflags", &flags, "-o"]).arg(partial);
        command.arg(program.package).current_dir(&module).env("CGO_ENABLED", "0");
        watch(command, program.name)
    })
}

/// Makes a file and gives it its name only then: a build that was broken off leaves no program.
fn publish(cache: &Cache, program: &Program, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = cache.path(program)?;
    let folder = cache.folder(program)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let partial = path.with_extension("partial");
    make(&partial)?;
    std::fs::rename(&partial, &path).with_context(|| format!("name {}", path.display()))
}

/// Runs Go, which names each package that it has compiled, and says now and then how far it is.
fn watch(mut command: Command, name: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("run go")?;
    let out = child.stderr.take().context("go has no standard error")?;
    let (start, mut shown, mut lines) = (Instant::now(), Instant::now(), Vec::new());
    for line in BufReader::new(out).lines() {
        lines.push(line.context("read what go says")?);
        if shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            eprintln!("{name}: {} packages in {} s", lines.len(), start.elapsed().as_secs());
        }
    }
    let status = child.wait().context("wait for go")?;
    if !status.success() {
        bail!("go build failed ({status}):\n{}", lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
    }
    eprintln!("{name}: built in {} s", start.elapsed().as_secs());
    Ok(())
}

fn free_bytes(folder: &Path) -> Result<u64> {
    let found =
        nix::sys::statvfs::statvfs(folder).with_context(|| format!("ask for the room of {}", folder.display()))?;
    Ok(found.blocks_available() * found.fragment_size())
}
