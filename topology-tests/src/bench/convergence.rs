//! How long a change takes from a file in cluster-a to a kernel map in cluster-b.
//!
//! Each sample writes one Pod with an address of its own into the folder that cluster-a's API server watches, and polls the
//! address map of a node of cluster-b, as its eBPF programs see it, until the address is there. The clock runs from just
//! before the file appears. Nothing of the product is asked: the map is read where it is pinned.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_ebpf::Pins;
use agent_ebpf::maps::{Access, IpCache};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::stats::{percentile, rounded};
use crate::lab::Lab;
use crate::mesh::Mesh;

/// How long one change may take before the run is given up.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Between two looks at the map.
const POLL: Duration = Duration::from_micros(50);
/// Between two samples: each change travels alone.
const GAP: Duration = Duration::from_millis(10);

#[derive(Debug, Serialize)]
pub struct Results {
    pub n: usize,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// What was measured, in words.
    pub path: String,
}

/// Measures `n` changes on two joined clusters.
pub fn run(lab: &Lab, mesh: &Mesh, n: usize) -> Result<Results> {
    let from = lab.cluster_plan("cluster-a")?;
    let to = lab.cluster_plan("cluster-b")?.first_node();
    mesh.meshctl(lab, &["connect", "cluster-a", "cluster-b"])?;
    let map = open_map(lab, &to.name)?;
    let folder = lab.cluster_dir(&from.name).join("manifests");
    let scratch = lab.cluster_dir(&from.name).join("bench-half-written");
    std::fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let host = from.first_node();
    let mut samples = Vec::with_capacity(n);
    let mut files = Vec::with_capacity(n);
    for number in 0..=n {
        let address = address(number)?;
        let name = format!("bench-{number}");
        let file = format!("pod-{name}.json");
        let (half, whole) = (scratch.join(&file), folder.join(&file));
        std::fs::write(&half, pod(&name, address, &host.name, host.ip).to_string()).context("write a pod")?;
        let started = Instant::now();
        std::fs::rename(&half, &whole).with_context(|| format!("publish {}", whole.display()))?;
        files.push(whole);
        wait_in_map(&map, address, started)?;
        // The first one also allocates the identity and warms every path: it is not a sample.
        if number > 0 {
            samples.push(started.elapsed().as_secs_f64() * 1e3);
        }
        std::thread::sleep(GAP);
    }
    for file in files {
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(Results {
        n: samples.len(),
        p50_ms: rounded(percentile(&mut samples, 50.0)),
        p90_ms: rounded(percentile(&mut samples, 90.0)),
        p99_ms: rounded(percentile(&mut samples, 99.0)),
        max_ms: rounded(percentile(&mut samples, 100.0)),
        path: format!(
            "Pod file in {} -> address map of node {} in cluster-b, both durable, no WAN delay",
            from.name, to.name
        ),
    })
}

fn wait_in_map(map: &IpCache, address: Ipv4Addr, started: Instant) -> Result<()> {
    while map.get(&IpAddr::from(address).into())?.is_none() {
        if started.elapsed() > GIVE_UP {
            bail!("{address} did not reach the map within {GIVE_UP:?}");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The node's map, through its mount namespace.
fn open_map(lab: &Lab, node: &str) -> Result<IpCache> {
    let place = &lab.node(node)?.place;
    let mounts = place.mnt.as_ref().with_context(|| format!("node {node} has no mount namespace"))?;
    let holder = mounts.parent().and_then(|ns| ns.parent()).context("a namespace file lies in /proc/PID/ns")?;
    let bpffs: PathBuf = holder.join("root/sys/fs/bpf");
    IpCache::open(&Pins::under(&bpffs), Access::ReadOnly).with_context(|| format!("open the maps of node {node}"))
}

/// Addresses of cluster-a's declared prefix that no pod of the lab has.
fn address(number: usize) -> Result<Ipv4Addr> {
    let (high, low) = (number / 250, number % 250);
    let high = u8::try_from(high).ok().filter(|h| *h < 50).context("at most 12,500 samples")?;
    Ok(Ipv4Addr::new(10, 1, 200 + high, 1 + u8::try_from(low).context("below 250")?))
}

fn pod(name: &str, address: Ipv4Addr, node: &str, node_ip: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "bench", "uid": name, "labels": { "app": "bench" } },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "ports": [{ "containerPort": 8080 }] }] },
        "status": {
            "phase": "Running",
            "hostIP": node_ip,
            "podIP": address,
            "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}
