//! Builds programs into the cache: one builder at a time, with its progress shown, under the final name only when whole.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_peer::Go;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// Builds what is missing. What is not built by the deadline is left, and an error; what is, stays.
pub(crate) fn all(cache: &Cache, workspace: &Path, deadline: Option<Instant>) -> Result<()> {
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
        build(cache, program, deadline).with_context(|| format!("build {}", program.name))?;
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

fn build(cache: &Cache, program: &Program, deadline: Option<Instant>) -> Result<()> {
    let module = program.source.folder();
    let go = Go::find(&module, cache.root())?.context("there is no Go: install golang-go")?;
    let flags = program.linker_flags()?;
    publish(cache, program, |partial| {
        let mut command = go.command();
        command.args(["build", "-v", "-mod=readonly", "-trimpath", "-ldflags", &flags, "-o"]).arg(partial);
        command.arg(program.package).current_dir(&module).env("CGO_ENABLED", "0");
        watch(command, program.name, deadline)
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
fn watch(mut command: Command, name: &str, deadline: Option<Instant>) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("run go")?;
    let out = child.stderr.take().context("go has no standard error")?;
    let (start, mut shown, mut lines) = (Instant::now(), Instant::now(), Vec::new());
    let is_late = interrupted_at(&child, deadline, || {
        for line in BufReader::new(out).lines() {
            lines.push(line.context("read what go says")?);
            if shown.elapsed() >= PROGRESS {
                shown = Instant::now();
                eprintln!("{name}: {} packages in {} s", lines.len(), start.elapsed().as_secs());
            }
        }
        Ok(())
    })?;
    let status = child.wait().context("wait for go")?;
    if is_late {
        bail!("broken off after {} s: its time was over; what is compiled is kept", start.elapsed().as_secs());
    }
    if !status.success() {
        bail!("go build failed ({status}):\n{}", lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
    }
    eprintln!("{name}: built in {} s", start.elapsed().as_secs());
    Ok(())
}

/// Does something that ends with the child, which is interrupted at the deadline; whether it was. Go then begins nothing new,
/// and ends when what it has begun is compiled.
fn interrupted_at(child: &Child, deadline: Option<Instant>, work: impl FnOnce() -> Result<()>) -> Result<bool> {
    let pid = Pid::from_raw(i32::try_from(child.id()).context("process ids fit in an i32")?);
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let timer = scope.spawn(move || {
            let Some(deadline) = deadline else { return false };
            let left = deadline.saturating_duration_since(Instant::now());
            let is_late = is_done.recv_timeout(left) == Err(RecvTimeoutError::Timeout);
            // It has not been waited for yet: the number is still its own.
            is_late && kill(pid, Signal::SIGINT).is_ok()
        });
        let worked = work();
        drop(done);
        let is_late = timer.join().map_err(|_panic| anyhow::anyhow!("the timer panicked"))?;
        worked.map(|()| is_late)
    })
}

fn free_bytes(folder: &Path) -> Result<u64> {
    let found =
        nix::sys::statvfs::statvfs(folder).with_context(|| format!("ask for the room of {}", folder.display()))?;
    Ok(found.blocks_available() * found.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_ends_at_its_deadline_and_says_so() {
        let sleeping = || {
            let mut command = Command::new("sleep");
            command.arg("60");
            command
        };
        let soon = Instant::now() + Duration::from_millis(50);
        let late = watch(sleeping(), "sleep", Some(soon)).unwrap_err().to_string();
        assert!(late.contains("broken off"), "{late}");
        assert!(watch(Command::new("true"), "true", Some(Instant::now() + Duration::from_mins(1))).is_ok());
        assert!(watch(Command::new("false"), "false", None).unwrap_err().to_string().contains("failed"));
    }
}
