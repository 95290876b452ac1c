//! What makes a node more than a network namespace: its mounts. `/etc`, `/opt` and `/var` are the machine's, but what is
//! written there is the node's own and stays on its disk; `/run`, the BPF file system and named network namespaces are new
//! after each boot. All of it ends with the last process of the node.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;
/// Folders that programs write to at places that are fixed in them (`/etc/cni/net.d`, `/var/lib/cni`, `/var/log/pods`).
const OWN: [&str; 3] = ["/etc", "/opt", "/var"];
/// Large, and mounted again by their users: on the disk itself rather than on an overlay.
pub const ON_DISK: [&str; 2] = ["/var/lib/containerd", "/var/lib/kubelet"];

/// Moves this program into a mount namespace that looks like a node's. Call it while there is one thread only.
///
/// `disk` is the folder that holds what the node writes. `cgroup` is shown as the root of the unified hierarchy where that is
/// mounted beside older ones: what is attached there then concerns this node alone.
pub fn enter(disk: &Path, cgroup: Option<&Path>) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let flags = |flags: MsFlags| mount(NONE, "/", NONE, flags | MsFlags::MS_REC, NONE);
    flags(MsFlags::MS_PRIVATE).context("part with the machine's mounts")?;
    // Pods may ask for mounts that the node sees too (mountPropagation: Bidirectional).
    flags(MsFlags::MS_SHARED).context("share mounts within the node")?;
    for folder in OWN.map(Path::new).into_iter().filter(|folder| folder.is_dir()) {
        overlay(disk, folder)?;
    }
    for folder in ON_DISK.map(Path::new) {
        let own = disk.join(folder.file_name().context("the folders have names")?);
        make(&own)?;
        make(folder)?;
        bind(&own, folder)?;
    }
    fresh("tmpfs", Path::new("/run"), "mode=0755")?;
    for folder in ["/run/netns", "/run/lock"] {
        make(Path::new(folder))?;
    }
    fresh("bpf", Path::new("/sys/fs/bpf"), "mode=0700")?;
    match cgroup {
        Some(cgroup) => bind(cgroup, &crate::names::cgroup_mount()),
        None => Ok(()),
    }
}

fn overlay(disk: &Path, folder: &Path) -> Result<()> {
    let name = folder.file_name().context("the folders have names")?;
    let (upper, work) = (disk.join("own").join(name), disk.join("work").join(name));
    make(&upper)?;
    make(&work)?;
    let layers = format!("lowerdir={},upperdir={},workdir={}", folder.display(), upper.display(), work.display());
    mount(Some("node"), folder, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .with_context(|| format!("lay the node's own {0} over the machine's", folder.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE)
        .with_context(|| format!("show {} as {}", from.display(), to.display()))
}

fn fresh(kind: &str, at: &Path, options: &str) -> Result<()> {
    mount(Some("node"), at, Some(kind), MsFlags::empty(), Some(options))
        .with_context(|| format!("mount a {kind} on {}", at.display()))
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}
