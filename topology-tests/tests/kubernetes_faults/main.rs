//! Parts of two joined clusters are killed and come back, one after the other, while pods of one cluster ask servers of the
//! other: nothing fails that would not fail in one cluster by itself. Needs what `kubernetes_mesh` needs, and says
//! `skipped: why` without it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod record;
mod upgrade;
mod workloads;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::load::Asker;
use topology_tests::kubernetes::release::{NAMESPACE, Release, install_and_connect, missing};
use topology_tests::load::Target;
use topology_tests::provider::{ClusterOptions, Clusters as _, Part, Plan};

use crate::record::{Recorder, write};

/// How long anything may take to be as before.
const BACK: Duration = Duration::from_mins(2);
/// How long API servers and nodes stay down, where `ISTHMUS_KUBE_DOWN_SECONDS` does not say: 120 is what counts.
const DOWN: Duration = Duration::from_secs(15);

/// Of mesh-apiserver, in the cluster that serves and in the one that asks.
const REPLICAS: [u32; 2] = [3, 1];
const ROLLING: &str = "rolling restart of the servers";

fn down_time() -> Duration {
    let said = std::env::var("ISTHMUS_KUBE_DOWN_SECONDS").ok();
    said.map_or(DOWN, |seconds| Duration::from_secs(seconds.parse().expect("ISTHMUS_KUBE_DOWN_SECONDS is a number")))
}

fn plan(name: &str) -> Plan {
    let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Ptp, ProxyMode::Iptables)];
    Plan { name: name.parse().unwrap(), clusters, nodes: 2 }
}

/// Both clusters with who asks and who serves, and without the mesh.
fn prepared(run: &Kubernetes) -> [Release<'_>; 2] {
    let releases = ["cluster-a", "cluster-b"].map(|name| Release::new(run, name).unwrap());
    for release in &releases {
        release.kubectl().apply(&workloads::askers(release.name())).unwrap();
    }
    releases[0].kubectl().apply(&workloads::servers("cluster-a")).unwrap();
    releases
}

fn askers(release: &Release<'_>) -> Vec<Asker> {
    let pods = release.pods("app=asker", 2).unwrap();
    let cluster = release.name().to_owned();
    pods.into_iter().map(|pod| Asker { cluster: cluster.clone(), node: pod.node, pod: pod.name }).collect()
}

fn target(release: &Release<'_>, service: &str) -> Target {
    let address = SocketAddr::from((release.cluster_ip(service).unwrap(), 80));
    Target { name: service.to_owned(), address }
}

/// Kills the agent of a node, and waits until its kubelet has started it again and it is ready.
fn agent_restarts(run: &Kubernetes, release: &Release<'_>, node: &str) -> Result<()> {
    let before: u64 = release.restarts()?.values().sum();
    run.kill_process(release.cluster.node(node)?, "node-agent")?;
    started_again(release, &format!("node-agent of {node}"), before)
}

/// The same with one replica of mesh-apiserver, by its number.
fn replica_restarts(run: &Kubernetes, release: &Release<'_>, number: u32) -> Result<()> {
    let pod = format!("isthmus-mesh-apiserver-{number}");
    let object = release.kubectl().get(&["pod", &pod, "-n", NAMESPACE])?;
    let node = object["spec"]["nodeName"].as_str().with_context(|| format!("{pod} has no node"))?;
    let before: u64 = release.restarts()?.values().sum();
    run.kill_process_of(release.cluster.node(node)?, &pod, "mesh-apiserver")?;
    started_again(release, &pod, before)
}

/// Waits until more containers were started again than before, and all pods are ready.
fn started_again(release: &Release<'_>, what: &str, before: u64) -> Result<()> {
    wait_for(&format!("{what} to be ready again"), BACK, || {
        let now: u64 = release.restarts()?.values().sum();
        ensure!(now > before, "it was not started again yet");
        Ok(Some(()))
    })
}

/// Kills a part and starts it again after a time.
fn away(run: &Kubernetes, cluster: &str, part: Part<'_>, wait: impl FnOnce() -> Result<()>) -> Result<()> {
    run.kill(cluster, part)?;
    wait()?;
    run.start_again(cluster, part)
}

#[test]
fn nothing_fails_while_parts_of_two_joined_clusters_are_killed_that_would_not_fail_in_one() {
    let images = match missing() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let run = Kubernetes::up(&plan("k8sfaults")).unwrap();
    images.load(&run).unwrap();
    let [a, b] = prepared(&run);
    install_and_connect([&a, &b], &images, REPLICAS).unwrap();
    a.pods("app=web", 2).unwrap();
    let mut recorder =
        Recorder::start(&run, &askers(&b), &target(&b, "web"), &askers(&a), &target(&a, "plain")).unwrap();
    faults(&run, &a, &b, &mut recorder).unwrap();
    let rows = recorder.end().unwrap();
    write("kubernetes-faults.json", &rows).unwrap();
    for row in &rows {
        let (mesh, own) = (&row.mesh, &row.kubernetes);
        assert!(mesh.requests > 0 && own.requests > 0, "{}: nobody asked", row.fault);
        assert!(mesh.failed <= own.failed, "{}: {} failed, and {} in one cluster", row.fault, mesh.failed, own.failed);
        // A connection ends with its server, and how many had that one is chance.
        if row.note.is_empty() {
            assert!(
                mesh.broken <= own.broken,
                "{}: {} broke, and {} in one cluster",
                row.fault,
                mesh.broken,
                own.broken
            );
        }
    }
    let rolling = rows.iter().find(|row| row.fault == ROLLING).unwrap();
    assert_eq!(rolling.mesh.failed, 0, "{:?}", rolling.mesh.errors);
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
}

fn faults(run: &Kubernetes, a: &Release<'_>, b: &Release<'_>, recorder: &mut Recorder<'_>) -> Result<()> {
    let down = down_time();
    for (release, replicas) in [a, b].into_iter().zip(REPLICAS) {
        for number in 1..=replicas {
            let fault = format!("mesh-apiserver {number} of {replicas} of {}", release.name());
            recorder.fault(&fault, "", |_| replica_restarts(run, release, number))?;
        }
    }
    for release in [a, b] {
        for node in &release.cluster.nodes {
            let fault = format!("node-agent of {}", node.name());
            recorder.fault(&fault, "", |_| agent_restarts(run, release, node.name()))?;
        }
    }
    for release in [a, b] {
        let (cluster, node) = (release.name(), release.cluster.nodes[0].name());
        for (what, part) in [("kubelet", Part::Kubelet(node)), ("containerd", Part::Containerd(node))] {
            recorder.fault(&format!("{what} of {node}"), "", |_| {
                away(run, cluster, part, || Ok(()))?;
                release.kubectl().wait_nodes_ready(release.cluster.nodes.len(), BACK).map(drop)
            })?;
        }
    }
    for release in [a, b] {
        let fault = format!("kube-apiserver of {}, {} s down", release.name(), down.as_secs());
        recorder.fault(&fault, "", |hit| {
            away(run, release.name(), Part::KubeApiserver, || hit.go_on(down))?;
            release.kubectl().wait_nodes_ready(release.cluster.nodes.len(), BACK).map(drop)
        })?;
    }
    recorder.fault(ROLLING, "a connection ends with its server", |_| {
        a.kubectl().run(&["rollout", "restart", "deployment/web", "-n", "default"])?;
        a.kubectl().rolled_out("default", "deployment/web", BACK)?;
        // The old ones end a while after the new ones serve.
        a.pods("app=web", 2).map(drop)
    })?;
    let node = a.cluster.nodes[0].name();
    let note = "what was under way to a dead server is lost; Kubernetes takes 50 s to notice";
    recorder.fault(&format!("power of node {node}, {} s", down.as_secs()), note, |hit| {
        hit.without(node);
        away(run, a.name(), Part::Node(node), || hit.go_on(down))?;
        a.kubectl().wait_nodes_ready(a.cluster.nodes.len(), BACK)?;
        a.pods("app=web", 2)?;
        wait_for("the mesh's pods to be ready", BACK, || a.restarts().map(|_| Some(())))
    })
}
