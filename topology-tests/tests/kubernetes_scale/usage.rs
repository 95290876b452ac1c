//! What the processes of the mesh use, as the kernel counts it, and what the API servers are asked meanwhile.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;
use topology_tests::bench::stats::rounded;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::metrics::Counters;

use crate::plan::{MESH, USER};
use crate::side::Side;

/// Hundredths of a second (proc_pid_stat(5)).
const TICKS_A_SECOND: f64 = 100.0;
/// kube-apiserver's counter of requests, by flow schema: the schemas tell users apart.
pub(crate) const DISPATCHED: &str = "apiserver_flowcontrol_dispatched_requests_total";
const OF_THE_MESH: [&str; 3] = ["mesh-apiserver", "node-agent", "mesh-tunnel"];

/// A process over a window.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    pub(crate) process: String,
    pub(crate) cluster: String,
    /// Of one core.
    pub(crate) cpu_percent: f64,
    pub(crate) resident_mib: f64,
    /// The most it ever was.
    pub(crate) peak_mib: f64,
}

/// Requests a second at a cluster's API server over a window.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Requests {
    pub(crate) cluster: String,
    pub(crate) all: f64,
    pub(crate) mesh: f64,
    /// Of the fake nodes and pods.
    pub(crate) generator: f64,
    /// By the API server's flow schemas, those with any.
    pub(crate) by_flow_schema: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Window {
    pub(crate) seconds: f64,
    pub(crate) usage: Vec<Usage>,
    pub(crate) requests: Vec<Requests>,
    /// That cluster-a's mesh-apiserver wrote, and lists and watches that it asked.
    pub(crate) keys_written: f64,
    pub(crate) source_requests: f64,
}

/// The beginning of a window.
pub(crate) struct Begun<'a> {
    sides: [&'a Side<'a>; 2],
    at: Instant,
    processes: Vec<Counted>,
    servers: Vec<Counters>,
    mesh: Counters,
}

struct Counted {
    process: String,
    cluster: String,
    pid: u32,
    ticks: f64,
}

impl<'a> Begun<'a> {
    pub(crate) fn now(run: &Kubernetes, sides: [&'a Side<'a>; 2]) -> Result<Self> {
        let mut processes = Vec::new();
        for side in sides {
            let cluster = side.release.name();
            let mut found = vec![("kube-apiserver", side.release.cluster.control_plane.apiserver.pid())];
            for name in OF_THE_MESH {
                found.push((name, Some(run.process(side.node(), name)?.pid)));
            }
            for (name, pid) in found {
                let pid = pid.with_context(|| format!("{name} of {cluster} does not run"))?;
                let (process, cluster) = (name.to_owned(), cluster.to_owned());
                processes.push(Counted { process, cluster, pid, ticks: ticks(pid)? });
            }
        }
        let servers = sides.iter().map(|side| side.api_server()).collect::<Result<_>>()?;
        let mesh = sides[0].mesh()?;
        // Last: what the looks above cost is not in the window.
        for counted in &mut processes {
            counted.ticks = ticks(counted.pid)?;
        }
        Ok(Self { sides, at: Instant::now(), processes, servers, mesh })
    }

    pub(crate) fn end(self) -> Result<Window> {
        let seconds = self.at.elapsed().as_secs_f64();
        let usage = self.processes.iter().map(|counted| counted.usage(seconds)).collect::<Result<_>>()?;
        let mut requests = Vec::new();
        for (side, before) in self.sides.iter().zip(&self.servers) {
            requests.push(requests_between(side.release.name(), before, &side.api_server()?, seconds));
        }
        let mesh = self.sides[0].mesh()?;
        let more = |name| mesh.sum(name) - self.mesh.sum(name);
        let (keys_written, source_requests) =
            (more("isthmus_export_keys_total"), more("isthmus_source_requests_total"));
        Ok(Window { seconds: rounded(seconds), usage, requests, keys_written, source_requests })
    }
}

impl Counted {
    fn usage(&self, seconds: f64) -> Result<Usage> {
        let cpu = (ticks(self.pid)? - self.ticks) / TICKS_A_SECOND / seconds * 100.0;
        let status = read(self.pid, "status")?;
        let mib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
            kib.map(|kib| rounded(kib / 1024.0)).with_context(|| format!("{} has no {field}", self.process))
        };
        let (resident_mib, peak_mib) = (mib("VmRSS:")?, mib("VmHWM:")?);
        let (process, cluster) = (self.process.clone(), self.cluster.clone());
        Ok(Usage { process, cluster, cpu_percent: rounded(cpu), resident_mib, peak_mib })
    }
}

/// Of the processor, in user and in system mode: fields 14 and 15.
fn ticks(pid: u32) -> Result<f64> {
    let text = read(pid, "stat")?;
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let sum = fields.get(11..13).context("stat has fewer fields")?;
    sum.iter().map(|field| field.parse::<f64>().with_context(|| format!("{field} is no number"))).sum()
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

/// What is told apart by user is told by the flow schemas; watches count there when they begin, and in the sum when they end.
fn requests_between(cluster: &str, before: &Counters, after: &Counters, seconds: f64) -> Requests {
    const ALL: &str = "apiserver_request_total";
    let rate = |count: f64| rounded(count / seconds);
    let earlier = before.by(DISPATCHED, "flow_schema");
    let now = after.by(DISPATCHED, "flow_schema").into_iter();
    let more = now.map(|(schema, count)| {
        let more = count - earlier.get(&schema).copied().unwrap_or(0.0);
        (schema, rate(more))
    });
    let by_flow_schema: BTreeMap<String, f64> = more.filter(|(_, rate)| *rate > 0.0).collect();
    let of = |schema: &str| by_flow_schema.get(schema).copied().unwrap_or(0.0);
    Requests {
        cluster: cluster.to_owned(),
        all: rate(after.sum(ALL) - before.sum(ALL)),
        mesh: of(MESH),
        generator: of(USER),
        by_flow_schema,
    }
}
