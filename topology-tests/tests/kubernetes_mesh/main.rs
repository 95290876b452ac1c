//! The mesh on real Kubernetes, end to end and as people do it: the chart installed on two clusters with different networks,
//! whose nodes enrol by themselves, clusters connected, an application split over both, all of it removed; with figures. Needs
//! root, Kubernetes' own programs (`cargo xtask k8s-tools`) and the images (`cargo xtask images --dev`); says `skipped: why`
//! without them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]

mod boutique;
mod convergence;
mod figures;
mod stream;
mod trace;

use std::time::{Duration, Instant};

use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::release::{Pod, Release, missing};
use topology_tests::kubernetes::workload::{Workload, global_service, manifests};
use topology_tests::provider::{ClusterOptions, Plan};

use crate::boutique::Boutique;
use crate::figures::{Figures, seconds};
use crate::stream::{Stream, answer_of, http_get};
use crate::trace::Trace;

/// From the command to join to the first answer of the other cluster: acceptance of the design.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long anything else may take to be seen.
const SEEN: Duration = Duration::from_mins(1);
/// Half of all pods are in the other cluster's kernel so many ms after their EndpointSlice: on two cores that the mesh shares
/// with two whole clusters, and with whatever else the machine does.
const CONVERGED_MS: f64 = 1_000.0;
const IDS: [u32; 2] = [1, 2];

/// A server on every node behind the global Service `web`, and a Service `far` whose servers come later, if at all.
fn workloads(cluster: &str) -> String {
    let server = |name, replicas| {
        let pods = Workload { kind: "Deployment", name, cluster, ports: "8080/TCP,9090/UDP", replicas };
        manifests([&pods.spread(), &global_service(name, &[("http", "TCP", 80, 8080), ("echo", "UDP", 90, 9090)])])
    };
    [server("web", 2), server("far", 0)].join("\n---\n")
}

fn traces(run: &Kubernetes) -> Vec<(String, Trace)> {
    let nodes = run.clusters.iter().flat_map(|cluster| &cluster.nodes);
    nodes.map(|node| (node.name().to_owned(), Trace::of(run, node).unwrap())).collect()
}

/// Every pod of one cluster gets answers of the other by its own cluster's address of the Service, over TCP and UDP, and is
/// seen there by its own address.
fn every_pod_reaches(from: &Release<'_>, pods: &[Pod], to: &str) {
    let ip = from.cluster_ip("web").unwrap().to_string();
    for pod in pods {
        for (protocol, script) in [("TCP", http_get(&ip)), ("UDP", format!("ask-udp {ip}:90"))] {
            let exec = ["exec", "-n", "default", &pod.name, "--", "sh", "-c", &script];
            let answered = answer_of("cluster", to);
            let answer = wait_for(&format!("an answer of {to} over {protocol} in {}", pod.name), SEEN, || {
                let said = from.kubectl().run(&exec)?;
                answered(&said).map_or_else(|| Err(anyhow::anyhow!("{said}")), |answer| Ok(Some(answer)))
            });
            let answer = answer.unwrap();
            let seen = answer["peer"].as_str().unwrap();
            assert!(seen.starts_with(&format!("{}:", pod.ip)), "{protocol}: the client's own address: {answer}");
        }
    }
    println!("{}: {} pods reach {to} at {ip} over TCP and UDP, by their own addresses", from.name(), pods.len());
}

#[test]
fn two_clusters_of_different_networks_become_one_mesh_and_part_without_a_trace() {
    let images = match missing() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let whole = Instant::now();
    let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Flannel, ProxyMode::Iptables)];
    let run = Kubernetes::up(&Plan { name: "k8smesh".parse().unwrap(), clusters, nodes: 2 }).unwrap();
    println!("two clusters of two nodes are ready after {:.1} s", run.took.as_secs_f64());
    let loading = Instant::now();
    images.load(&run).unwrap();
    let images_loaded = loading.elapsed();
    println!("images are loaded after {:.1} s", images_loaded.as_secs_f64());
    let [a, b] = ["cluster-a", "cluster-b"].map(|name| Release::new(&run, name).unwrap());
    // These pods are there before the mesh, and after it: nodes are compared with them on.
    for release in [&a, &b] {
        release.kubectl().apply(&workloads(release.name())).unwrap();
    }
    let web = [&a, &b].map(|release| release.pods("app=web", 2).unwrap());
    let before = traces(&run);

    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (release, id) in [&a, &b].into_iter().zip(IDS) {
            let images = &images;
            scope.spawn(move || {
                release.install(images, id).unwrap();
                release.ready().unwrap();
            });
        }
    });
    let install_to_ready = begun.elapsed();
    println!("install to ready: {:.1} s", install_to_ready.as_secs_f64());
    // It is found by its Service, which must not hang on what the server itself last said.
    let replaced = a.replace_server().unwrap();
    println!("mesh-apiserver's pod deleted to all agents connected to the next: {:.1} s", replaced.as_secs_f64());

    b.kubectl().run(&["scale", "deployment", "far", "-n", "default", "--replicas=1"]).unwrap();
    b.pods("app=far", 1).unwrap();
    let far = a.cluster_ip("far").unwrap().to_string();
    let asking = Stream::asking(a.kubectl(), &web[0][0].name, &far).unwrap();
    let begun = a.connect(IDS[0], &b).unwrap();
    let joined = begun.elapsed();
    let (answered, _) = asking.first("the first answer", begun, SEEN, answer_of("cluster", "cluster-b")).unwrap();
    let first = answered.duration_since(begun);
    println!("connect: {:.1} s; connect to first answer: {:.1} s", joined.as_secs_f64(), first.as_secs_f64());
    assert!(first <= FIRST_ANSWER, "{first:?}");

    every_pod_reaches(&a, &web[0], "cluster-b");
    every_pod_reaches(&b, &web[1], "cluster-a");
    drop(asking);

    let boutique = Boutique::load().unwrap();
    let begun = Instant::now();
    boutique.start([&a, &b]).unwrap();
    let application_ready = begun.elapsed();
    let ways_reached = boutique.reach_all(&run, [&a, &b]).unwrap();
    println!("{}: {ways_reached} ways from a pod to a Service of the other cluster, all answered", boutique.origin);
    Boutique::remove([&a, &b]).unwrap();

    let convergence = convergence::measure(&a, &b, &b.cluster.nodes[0]).unwrap();
    println!("{convergence:?}");
    assert!(convergence.mesh.p50_ms <= CONVERGED_MS, "{convergence:?}");

    assert_eq!(run.wan.counters().unwrap().clear, 0, "in clear between the clusters: {:?}", run.wan.clear_seen());

    // Pods that came under the mesh go with it; those from before stay.
    b.kubectl().run(&["delete", "deployment", "far", "-n", "default", "--cascade=foreground"]).unwrap();
    b.pods("app=far", 0).unwrap();
    a.disconnect(b.name()).unwrap();
    b.disconnect(a.name()).unwrap();

    // The same by an object.
    let took = a.join_by_object(IDS[0], &b).unwrap();
    println!("ClusterPeering applied to Ready: {:.1} s", took.as_secs_f64());
    every_pod_reaches(&a, &web[0], "cluster-b");
    a.part_by_object(b.name()).unwrap();
    b.disconnect(a.name()).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for release in [&a, &b] {
            scope.spawn(|| println!("{}: {}", release.name(), release.uninstall().unwrap().trim()));
        }
    });
    let uninstall = begun.elapsed();
    println!("uninstalled after {:.1} s", uninstall.as_secs_f64());
    same_as(&run, &before);
    let clusters_ready = run.took;
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
    let figures = Figures {
        clusters_ready: seconds(clusters_ready),
        images_loaded: seconds(images_loaded),
        install_to_ready: seconds(install_to_ready),
        connect: seconds(joined),
        connect_to_first_answer: seconds(first),
        application: boutique.origin,
        application_ready: seconds(application_ready),
        ways_reached,
        convergence,
        uninstall: seconds(uninstall),
        whole_test: seconds(whole.elapsed()),
    };
    println!("{figures:?}");
    figures.write().unwrap();
}

/// Waits until nodes are as they were: what a pod had on its node goes a moment after the pod.
fn same_as(run: &Kubernetes, before: &[(String, Trace)]) {
    let same = wait_for("the nodes to be as before the mesh", SEEN, || {
        let mut different = Vec::new();
        for ((node, before), (_, now)) in before.iter().zip(traces(run)) {
            different.extend(before.differences(&now).into_iter().map(|fact| format!("{node}: {fact}")));
        }
        if different.is_empty() { Ok(Some(())) } else { anyhow::bail!("{}", different.join("\n")) }
    });
    same.unwrap();
}
