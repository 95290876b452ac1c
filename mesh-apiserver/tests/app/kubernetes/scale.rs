//! What following a larger cluster costs: memory and time of the shipped program, and requests to the API server.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_peer::free_ports;
use futures::StreamExt as _;
use serde_json::json;

use super::ONE_AT_A_TIME;
use super::apiserver::{Apiserver, Kube};
use super::objects::{grant, namespace, node, pod, service, slice};
use crate::harness;

const ENDPOINTS_OF_A_SERVICE: usize = 10;
const NODES: usize = 50;
/// For how long requests and processor time are counted while nothing happens.
const QUIET: Duration = Duration::from_mins(1);
const WITHIN: Duration = Duration::from_mins(3);

/// Ends with this value.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

impl Program {
    /// Resident memory in MiB, as `/proc/<pid>/status` has it, and the most it ever was.
    fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("the program runs");
        let of = |field: &str| {
            let line = text.lines().find(|line| line.starts_with(field)).expect("a field of the kernel's");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Processor time so far (proc_pid_stat(5), fields 14 and 15, in hundredths of a second).
    fn processor(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("the program runs");
        let fields: Vec<&str> = text.rsplit(") ").next().expect("a name in brackets").split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }
}

async fn fill(apiserver: &Apiserver, services: usize) {
    grant(apiserver).await;
    namespace(apiserver, "shop").await;
    let api = apiserver;
    let nodes = futures::stream::iter(0..NODES).map(|n| async move {
        node(api, &format!("n{n}"), &format!("192.0.1.{}", n + 1), Some(&format!("10.1.{n}.0/24"))).await;
    });
    nodes.buffer_unordered(8).collect::<Vec<()>>().await;
    let all = futures::stream::iter(0..services).map(|s| async move {
        let name = format!("s{s}");
        let mut endpoints = Vec::new();
        for e in 0..ENDPOINTS_OF_A_SERVICE {
            let number = s * ENDPOINTS_OF_A_SERVICE + e;
            let (on, ip) = (format!("n{}", number % NODES), format!("10.1.{}.{}", number % NODES, number / NODES + 1));
            pod(api, &format!("{name}-{e}"), &on, &ip).await;
            endpoints.push(json!({"addresses": [ip], "nodeName": on, "conditions": {"ready": true}}));
        }
        service(api, &name, &format!("10.101.{}.{}", s / 250, s % 250 + 1), &json!({"mesh.isthmus.io/global": "true"}))
            .await;
        slice(api, &name, &json!(endpoints)).await;
    });
    all.buffer_unordered(8).collect::<Vec<()>>().await;
}

async fn figure(port: u16, name: &str) -> Option<u64> {
    let text = harness::metrics_at(([127, 0, 0, 1], port).into()).await.ok()?;
    text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_cluster_is_read_in_pages_and_costs_little_when_nothing_happens() {
    let Some(services) = std::env::var("ISTHMUS_KUBE_SCALE").ok() else {
        println!("skipped: takes minutes; ISTHMUS_KUBE_SCALE=500 measures 500 Services with 5,000 endpoints");
        return;
    };
    let services: usize = services.parse().expect("ISTHMUS_KUBE_SCALE is a number of Services");
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut apiserver = kube.start().await;
    let filling = Instant::now();
    fill(&apiserver, services).await;
    println!("made {services} Services and {} pods in {:.1?}", services * ENDPOINTS_OF_A_SERVICE, filling.elapsed());

    let folder = tempfile::tempdir().unwrap();
    let [metrics] = free_ports().unwrap();
    let mut flags = harness::flags("east", 1, folder.path());
    flags.retain(|flag| !flag.starts_with("--listen-metrics"));
    let started = Instant::now();
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_mesh-apiserver")])
        .args(flags)
        .arg(format!("--listen-metrics=127.0.0.1:{metrics}"))
        .args(["--source=kubernetes", &format!("--kubeconfig={}", kube.kubeconfig(apiserver.port).display())])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let program = Program(child.expect("the program starts"));
    let objects = u64::try_from(services * (ENDPOINTS_OF_A_SERVICE + 2) + NODES).unwrap();
    // Of the namespaces, all but the one are Kubernetes' own; so is a Service and its slice.
    while figure(metrics, "isthmus_source_objects").await.unwrap_or(0) < objects
        || figure(metrics, "isthmus_export_keys_total").await.unwrap_or(0) < objects
    {
        assert!(started.elapsed() < WITHIN, "{objects} objects are not exported within {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (lists, (now, most)) = (figure(metrics, "isthmus_source_requests_total").await.unwrap(), program.memory());
    println!("exported after {:.1?}: {lists} requests, {now} MiB ({most} at most)", started.elapsed());
    let pages = u64::try_from(services * ENDPOINTS_OF_A_SERVICE).unwrap().div_ceil(500);
    assert!(lists >= pages, "{lists} requests for at least {pages} pages");

    let before = program.processor();
    tokio::time::sleep(QUIET).await;
    let more = figure(metrics, "isthmus_source_requests_total").await.unwrap() - lists;
    println!("in {QUIET:?} of quiet: {more} requests, {:.2?} of processor", program.processor().saturating_sub(before));
    // Five watches, asked for once or twice; and the resource of a CRD that is not there, in both its versions.
    assert!(more <= 10 + 2 * 7, "{more} requests");

    // It goes away and comes back: what it has is read again at most, and nothing of it is written again.
    let exported = || async { figure(metrics, "isthmus_export_keys_total").await.unwrap() };
    let (written, asked, before, begun) = (exported().await, lists + more, program.processor(), Instant::now());
    apiserver.kill();
    while figure(metrics, "isthmus_source_trouble").await.unwrap() == 0 {
        assert!(begun.elapsed() < WITHIN, "nobody noticed that the API server is gone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    apiserver.restart().await;
    let back = Instant::now();
    while figure(metrics, "isthmus_source_trouble").await.unwrap() != 0 {
        assert!(back.elapsed() < WITHIN, "the API server is back and not followed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let followed = back.elapsed();
    // A change that comes after all that was there shows that it was dealt with.
    service(&apiserver, "last", "10.101.200.1", &json!({"mesh.isthmus.io/global": "true"})).await;
    while exported().await == written {
        assert!(back.elapsed() < WITHIN, "a new Service is not exported");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (again, requests) =
        (exported().await - written, figure(metrics, "isthmus_source_requests_total").await.unwrap() - asked);
    println!(
        "API server restarted: followed {followed:.1?} after it was ready, {requests} requests, {:.2?} of processor, {again} keys written",
        program.processor().saturating_sub(before)
    );
    assert!(again <= 5, "{again} keys were written again for one new Service");
}
