//! Named network namespaces and threads that visit them, and a program's move into a nameless one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

const DIR: &str = "/run/netns";

/// The file of a named namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Makes namespaces in one go.
pub fn create(names: &[String]) -> Result<()> {
    let lines: Vec<String> = names.iter().map(|name| format!("netns add {name}")).collect();
    ip(None, &lines).context("make network namespaces")
}

/// Deletes a namespace with all its devices. One that is already gone is no error.
pub fn delete(name: &str) -> Result<()> {
    if !path(name).exists() {
        return Ok(());
    }
    ip(None, &[format!("netns del {name}")]).with_context(|| format!("delete network namespace {name}"))
}

/// The names that start with a prefix.
pub fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIR) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// Moves the calling thread into a namespace, for good: only for threads that were made for it.
pub fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("open {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", namespace.display()))
}

/// Moves this program into nameless network and mount namespaces of its own, which end with it: call it while there is one
/// thread only. What is mounted from then on, nobody else sees.
pub fn enter_own() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("make namespaces: this needs root")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("part with the machine's mounts")?;
    ip(None, &["link set lo up".to_owned()])
}

/// Runs `work` on a thread of its own inside a namespace.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = path(name);
    std::thread::scope(|scope| {
        let visit = scope.spawn(|| {
            enter(&namespace)?;
            work()
        });
        visit.join().map_err(|_panic| anyhow!("a thread in {name} panicked"))?
    })
}

/// Writes sysctls, given below `net/`, of a namespace.
pub fn sysctl(name: &str, settings: &[(&str, &str)]) -> Result<()> {
    within(name, || {
        for (key, value) in settings {
            let file = format!("/proc/sys/net/{key}");
            std::fs::write(&file, value).with_context(|| format!("write {value} to {file} in {name}"))?;
        }
        Ok(())
    })
}

/// Packets between ports of one bridge pass the rules of iptables and nftables too, as kube-proxy needs it. Where the kernel
/// cannot, nothing is changed.
pub fn bridged_packets_pass_rules(name: &str) -> Result<()> {
    within(name, || {
        let file = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
        if !file.exists() {
            return Ok(());
        }
        std::fs::write(file, "1").with_context(|| format!("write {} in {name}", file.display()))
    })
}

/// Runs lines of `ip` commands in a namespace, or in the machine's own, which only makes and deletes names there.
pub fn ip(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip")?;
    let mut input = child.stdin.take().context("ip has no standard input")?;
    input.write_all((lines.join("\n") + "\n").as_bytes()).context("write to ip")?;
    drop(input);
    let output = child.wait_with_output().context("wait for ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip in {}: {}\n{}", namespace.unwrap_or("the machine"), said.trim(), lines.join("\n"));
    }
    Ok(())
}
