//! A real node-agent's memory, with all endpoints of all clusters in its maps. Runs where the benchmark has a network
//! namespace of its own, with a device that stands for the node's uplink.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::bootstrap::{PATIENCE, begin, follow};
use super::figures;
use super::{Plan, Results};
use crate::bench::stats::rounded;
use crate::cgroup;
use crate::names::cgroup_mount;
use crate::proc::{self, Proc};

/// The uplink, and the own node's address on it.
const UPLINK: &str = "uplink0";
const FAR_END: &str = "uplink1";
const NODE_IP: &str = "192.168.251.1";
const METRICS_PORT: u16 = 9974;

pub(super) async fn measure(plan: &Plan, results: &mut Results) -> Result<()> {
    if !plan.is_in_own_namespace {
        eprintln!("federation: agent skipped: it needs root, and a network namespace of its own");
        return Ok(());
    }
    make_uplink()?;
    let scale = &plan.scale;
    let (server, peers) = begin(plan, "agent", 1, scale.clusters, scale.shape)?;
    let probe = follow(&server, "probe").await?;
    server.join(&peers.records()?).await?;
    let want = (scale.clusters * scale.shape.endpoints) as usize;
    let objects = results.objects;
    probe.until("view of all clusters", PATIENCE, |seen| seen.keys.len() > objects).await?;
    drop(probe);

    let folder = plan.folder.join("node");
    let (state, bpffs) = (folder.join("state"), folder.join("bpffs"));
    let cgroup = Cgroup::create()?;
    for dir in [&state, &bpffs] {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    run("mount", &["-t", "bpf", "bpf", &bpffs.display().to_string()])?;
    let token = folder.join("token");
    std::fs::write(&token, server.node_token("node-own").await?).context("write the node's token")?;
    let mut command = Command::new(&plan.node_agent);
    command
        .args(["--node-name", "node-own", "--cluster-name", super::server::NAME])
        .args(["--apiserver", &server.mesh_address(0).to_string(), "--node-ip", NODE_IP, "--uplink", UPLINK])
        .arg("--enrol-token-file")
        .arg(&token)
        .arg("--state-dir")
        .arg(&state)
        .arg("--cgroup-root")
        .arg(&cgroup.0)
        .arg("--bpffs")
        .arg(&bpffs)
        .args(["--listen-metrics", &format!("127.0.0.1:{METRICS_PORT}")]);
    let began = Instant::now();
    let agent = Proc::start("node-agent", command, &folder.join("log"))?;
    let address = ([127, 0, 0, 1], METRICS_PORT).into();
    agent.wait_ready("it says that it is ready", Duration::from_mins(3), || figures::is_ready(address))?;
    results.agent_ready_s = Some(rounded(began.elapsed().as_secs_f64()));
    let addresses = filled(address, want).await?;
    results.agent_addresses = Some(addresses);
    let (now, peak) = figures::memory_mib(agent.pid())?;
    let maps = figures::mapped_maps_mib(agent.pid())?;
    results.agent_rss_mib = Some(rounded(now - maps));
    results.agent_peak_rss_mib = Some(rounded(peak - maps));
    results.agent_maps_mib = maps_mib(agent.pid()).ok().map(rounded);
    agent.stop(Duration::from_secs(10))?;
    run("umount", &[&bpffs.display().to_string()])?;
    drop(peers);
    server.end()
}

/// Waits until the agent says that its maps hold so many addresses; how many they are then.
async fn filled(metrics: SocketAddr, want: usize) -> Result<usize> {
    let began = Instant::now();
    loop {
        let text = figures::get(metrics, "/metrics").await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let addresses = figures::sum_of(&text, "isthmus_addresses", "") as usize;
        if addresses >= want {
            return Ok(addresses);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "the agent has {addresses} addresses in its maps, not {want}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What stands for the node's way to others; nothing is behind it.
fn make_uplink() -> Result<()> {
    run("ip", &["link", "add", UPLINK, "type", "veth", "peer", "name", FAR_END])?;
    run("ip", &["link", "set", FAR_END, "up"])?;
    run("ip", &["addr", "add", &format!("{NODE_IP}/24"), "dev", UPLINK])?;
    run("ip", &["link", "set", UPLINK, "up"])?;
    run("ip", &["route", "add", "default", "dev", UPLINK])
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args);
    proc::output(program, command).map(drop)
}

/// An empty cgroup to stand for that of the node's pods; it goes with this value.
struct Cgroup(PathBuf);

impl Cgroup {
    fn create() -> Result<Self> {
        let path = cgroup_mount().join(format!("isthmus-bench-{}", std::process::id()));
        cgroup::create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = cgroup::remove_tree(&self.0) {
            eprintln!("federation: {error:#}");
        }
    }
}

/// MiB that the kernel charges for the maps that a process holds open (`memlock` of each, proc(5)).
fn maps_mib(pid: u32) -> Result<f64> {
    let mut bytes = 0.0;
    let mut known = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let is_new =
            text.lines().find(|line| line.starts_with("map_id:")).is_some_and(|id| known.insert(id.to_owned()));
        if is_new {
            bytes += field("memlock:").unwrap_or(0.0);
        }
    }
    Ok(bytes / f64::from(1 << 20))
}
