//! `lab-node`: the small program that makes places. `hold` keeps a node's mount namespace, `enter` runs a program in a
//! place, `guard` tears the lab down when its owner is gone, however it went.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getppid, setsid};
use topology_tests::kubernetes::machine;
use topology_tests::names::LabName;
use topology_tests::teardown;

#[derive(Parser)]
enum Verb {
    /// Make a mount namespace with its own bpffs and /run, say so on standard output, and keep it until standard input ends.
    Hold,
    /// Make the mount namespace of a real Kubernetes node, say so on standard output, and keep it until standard input ends.
    HoldMachine {
        /// Where what the node writes is kept.
        #[arg(long)]
        disk: PathBuf,
        /// What the node sees as the root of the unified cgroup hierarchy.
        #[arg(long)]
        cgroup: Option<PathBuf>,
    },
    /// Enter namespaces and a cgroup, then become a program.
    Enter(Enter),
    /// Wait until standard input ends; unless it said `done`, tear the lab down.
    Guard { lab: LabName },
}

#[derive(clap::Args)]
struct Enter {
    /// End at once unless this process is the parent; die with it in any case.
    #[arg(long)]
    parent: Option<i32>,
    #[arg(long)]
    net: Option<PathBuf>,
    #[arg(long)]
    mnt: Option<PathBuf>,
    #[arg(long)]
    cgroup: Option<PathBuf>,
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

fn main() -> ExitCode {
    let result = match Verb::parse() {
        Verb::Hold => hold(),
        Verb::HoldMachine { disk, cgroup } => hold_machine(&disk, cgroup.as_deref()),
        Verb::Enter(enter) => become_program(&enter).map(|never| match never {}),
        Verb::Guard { lab } => guard(&lab),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("ask to die with the lab")?;
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    // Slave, not private: network namespaces that are named later must become visible here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .context("make all mounts slaves")?;
    let names = File::open("/run/netns").context("open /run/netns")?;
    mount(Some("lab"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).context("mount a tmpfs on /run")?;
    for directory in ["/run/netns", "/run/lock", "/run/wireguard"] {
        std::fs::create_dir(directory).with_context(|| format!("make {directory}"))?;
    }
    let source = format!("/proc/self/fd/{}", names.as_raw_fd());
    mount(Some(source.as_str()), "/run/netns", None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .context("bring /run/netns back")?;
    mount(Some("lab"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700")).context("mount a bpffs")?;
    stay()
}

fn hold_machine(disk: &Path, cgroup: Option<&Path>) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("ask to die with the cluster")?;
    machine::enter(disk, cgroup)?;
    stay()
}

fn stay() -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(b"ready\n").and_then(|()| out.flush()).context("say that the namespace is ready")?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("wait for the lab")?;
    Ok(())
}

fn become_program(enter: &Enter) -> Result<Infallible> {
    if let Some(parent) = enter.parent {
        set_pdeathsig(Signal::SIGKILL).context("ask to die with the starter")?;
        if getppid().as_raw() != parent {
            bail!("the starter is gone already");
        }
    }
    if let Some(cgroup) = &enter.cgroup {
        std::fs::write(cgroup.join("cgroup.procs"), "0")
            .with_context(|| format!("enter cgroup {}", cgroup.display()))?;
    }
    // Both are opened before either is entered: afterwards the paths may mean something else.
    let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
    let net = enter.net.as_deref().map(open).transpose()?;
    let mnt = enter.mnt.as_deref().map(open).transpose()?;
    if let Some(net) = net {
        setns(net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
    }
    if let Some(mnt) = mnt {
        setns(mnt, CloneFlags::CLONE_NEWNS).context("enter the mount namespace")?;
    }
    // The starter may have blocked signals; the program decides for itself.
    SigSet::empty().thread_set_mask().context("unblock signals")?;
    let (program, args) = enter.command.split_first().context("no program was given")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("run {}", program.display()))
}

fn guard(lab: &LabName) -> Result<()> {
    // A session of its own: Ctrl-C ends the owner, and must not end the one who cleans up after it.
    setsid().context("start a session")?;
    let mut said = String::new();
    std::io::stdin().read_to_string(&mut said).context("wait for the lab's owner")?;
    if said.trim() == "done" { Ok(()) } else { teardown::sweep(lab) }
}
