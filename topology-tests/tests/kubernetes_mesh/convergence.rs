//! How long a pod's readiness takes from the API server of one cluster into a kernel map of a node of the other.
//!
//! The pods are real and so is their readiness: each has a readiness gate, and its kubelet makes it Ready when the gate opens.
//! The clock starts when a watch of the API server shows the pod as Ready, and ends when the Service's entry in the map that
//! the other node's eBPF programs read has one backend more. Nothing of the mesh is asked. Part of that time is Kubernetes' own:
//! until its controller has written the EndpointSlice, which the mesh reads; the mesh's part is counted from there.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use agent_ebpf::Pins;
use agent_ebpf::common::{Addr, PROTO_TCP, ServiceKey};
use agent_ebpf::maps::{Access, Services};
use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use serde_json::Value;
use topology_tests::bench::stats::{percentile, rounded};
use topology_tests::deadline::{wait_for, wait_until};
use topology_tests::kubernetes::kubectl::has_condition;
use topology_tests::kubernetes::node::Node;
use topology_tests::kubernetes::release::Release;
use topology_tests::kubernetes::workload::{self, Workload, global_service, pod_of};

use crate::stream::Stream;

const NAME: &str = "gated";
const GATE: &str = "mesh.isthmus.io/test";
/// Pods whose gates are opened one after the other, and how often all of them are.
const PODS: usize = 8;
const ROUNDS: usize = 7;
/// How long anything may take to be seen.
const SEEN: Duration = Duration::from_secs(30);
/// Between two looks at the map.
const POLL: Duration = Duration::from_micros(200);

#[derive(Debug, Serialize)]
pub(crate) struct Convergence {
    /// From the pod's readiness.
    pub(crate) whole: Spread,
    /// From the EndpointSlice that says so.
    pub(crate) mesh: Spread,
    /// What was measured, in words.
    path: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Spread {
    n: usize,
    pub(crate) p50_ms: f64,
    p90_ms: f64,
    pub(crate) p99_ms: f64,
    max_ms: f64,
}

impl Spread {
    fn of(mut samples: Vec<f64>) -> Self {
        let mut at = |percent| rounded(percentile(&mut samples, percent));
        let [p50_ms, p90_ms, p99_ms, max_ms] = [50.0, 90.0, 99.0, 100.0].map(&mut at);
        Self { n: samples.len(), p50_ms, p90_ms, p99_ms, max_ms }
    }
}

/// The pods and their Service; the Service alone for the cluster that only looks.
pub(crate) fn manifests(cluster: &str, serves: bool) -> String {
    let service = global_service(NAME, &[("http", "TCP", 80, 8080)]);
    if !serves {
        return workload::manifests([&service]);
    }
    let replicas = u32::try_from(PODS).expect("a handful");
    let mut pods = Workload { kind: "Deployment", name: NAME, cluster, ports: "8080/TCP", replicas }.object();
    let pod = pod_of(&mut pods);
    // Ready when the gate is opened, and by nothing else.
    pod["readinessGates"] = serde_json::json!([{ "conditionType": GATE }]);
    pod["containers"][0].as_object_mut().expect("a container").remove("readinessProbe");
    workload::manifests([&service, &pods])
}

/// Measures, and removes what [`manifests`] made.
pub(crate) fn measure(serving: &Release<'_>, looking: &Release<'_>, node: &Node) -> Result<Convergence> {
    serving.kubectl().apply(&manifests(serving.name(), true))?;
    looking.kubectl().apply(&manifests(looking.name(), false))?;
    let pods = pods_that_only_wait(serving)?;
    let bpffs = node.place()?.seen_from_outside(Path::new("/sys/fs/bpf"));
    let map = Services::open(&Pins::under(&bpffs), Access::ReadOnly).context("open the node's map of services")?;
    let service = looking.kubectl().get(&["service", NAME, "-n", "default"])?;
    let ip: Ipv4Addr = service["spec"]["clusterIP"].as_str().context("the Service has no address")?.parse()?;
    let key = ServiceKey { addr: Addr::from(IpAddr::from(ip)), port_be: 80_u16.to_be(), proto: PROTO_TCP, pad: 0 };
    let backends = || map.get(&key).map(|found| found.map_or(0, |service| service.backends));
    let of_pods = watch(serving, &format!("/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3D{NAME}"))?;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?watch=1&labelSelector=";
    let of_slices = watch(serving, &format!("{slices}kubernetes.io%2Fservice-name%3D{NAME}"))?;
    let (mut whole, mut mesh) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        wait_until("the map to have no backend", SEEN, || backends().is_ok_and(|count| count == 0))?;
        for (n, pod) in pods.iter().enumerate() {
            let (begun, wanted) = (Instant::now(), n + 1);
            let in_map = || Ok(backends()? as usize >= wanted);
            let (seen, ready, written) = std::thread::scope(|scope| {
                let seen = scope.spawn(|| first_seen(begun, in_map));
                open_gate(serving, pod, true)?;
                let (ready, ()) =
                    of_pods.first(&format!("{pod} to be Ready"), begun, SEEN, |line| is_ready(line, pod))?;
                let (written, ()) = of_slices.first("its endpoint", begun, SEEN, |line| are_ready(line, wanted))?;
                let seen = seen.join().map_err(|_panic| anyhow!("the look at the map panicked"))?;
                seen.with_context(|| format!("{wanted} backends in the map")).map(|seen| (seen, ready, written))
            })?;
            // The first round also warms every path: it is no sample.
            if round > 0 {
                whole.push(ms_from(ready, seen));
                mesh.push(ms_from(written, seen));
            }
        }
        for pod in &pods {
            open_gate(serving, pod, false)?;
        }
    }
    drop((of_pods, of_slices));
    serving.kubectl().run(&["delete", "deployment,service", NAME, "-n", "default", "--cascade=foreground"])?;
    looking.kubectl().run(&["delete", "service", NAME, "-n", "default"])?;
    serving.pods(&format!("app={NAME}"), 0)?;
    Ok(Convergence {
        whole: Spread::of(whole),
        mesh: Spread::of(mesh),
        path: format!(
            "pod Ready as {}'s API server tells a watch -> service map of node {} of {}",
            serving.name(),
            node.name(),
            looking.name()
        ),
    })
}

fn watch(cluster: &Release<'_>, path: &str) -> Result<Stream> {
    let mut command = cluster.kubectl().command();
    command.args(["get", "--raw", path]);
    Stream::of(command)
}

/// Below zero where this test's watch was told a moment later than the mesh.
fn ms_from(start: Instant, end: Instant) -> f64 {
    let (after, before) = (end.saturating_duration_since(start), start.saturating_duration_since(end));
    (after.as_secs_f64() - before.as_secs_f64()) * 1e3
}

/// The pods' names, when nothing but their gates keeps them from being ready.
fn pods_that_only_wait(cluster: &Release<'_>) -> Result<Vec<String>> {
    wait_for(&format!("{PODS} pods to wait for their gates"), SEEN * 2, || {
        let list = cluster.kubectl().get(&["pods", "-n", "default", "-l", &format!("app={NAME}")])?;
        let all = list["items"].as_array().into_iter().flatten();
        let waiting = all.filter(|pod| has_condition(pod, "ContainersReady") && !has_condition(pod, "Ready"));
        let names: Vec<String> = waiting.filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect();
        if names.len() == PODS { Ok(Some(names)) } else { bail!("{} do", names.len()) }
    })
}

/// What a controller does that a readiness gate is meant for.
fn open_gate(cluster: &Release<'_>, pod: &str, is_open: bool) -> Result<()> {
    let status = if is_open { "True" } else { "False" };
    let patch = format!(r#"{{"status":{{"conditions":[{{"type":"{GATE}","status":"{status}"}}]}}}}"#);
    cluster.kubectl().run(&["patch", "pod", pod, "-n", "default", "--subresource=status", "-p", &patch]).map(drop)
}

/// When a fact was first seen.
fn first_seen(begun: Instant, fact: impl Fn() -> Result<bool>) -> Result<Instant> {
    while !fact()? {
        if begun.elapsed() > SEEN {
            bail!("not within {SEEN:?}");
        }
        std::thread::sleep(POLL);
    }
    Ok(Instant::now())
}

/// A line of a watch that says that this pod is Ready.
fn is_ready(line: &str, pod: &str) -> Option<()> {
    let event: Value = serde_json::from_str(line).ok()?;
    let object = &event["object"];
    (object["metadata"]["name"] == pod && has_condition(object, "Ready")).then_some(())
}

/// A line of a watch that says that so many endpoints of a slice are ready.
fn are_ready(line: &str, wanted: usize) -> Option<()> {
    let event: Value = serde_json::from_str(line).ok()?;
    let endpoints = event["object"]["endpoints"].as_array()?;
    let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
    (ready >= wanted).then_some(())
}
