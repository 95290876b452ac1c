//! The mesh on real Kubernetes, end to end and as people do it: the chart installed on two clusters with different networks,
//! whose nodes enrol by themselves, clusters connected, a Service used from both sides, all of it removed. Needs root,
//! Kubernetes' own programs (`cargo xtask k8s-tools`) and the images (`cargo xtask images --dev`); says `skipped: why` without
//! them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]

mod images;
mod release;
mod stream;
mod trace;

use std::path::Path;
use std::time::{Duration, Instant};

use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::images::WORKLOAD;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::{Kubernetes, requirements};
use topology_tests::names::cgroup_mount;
use topology_tests::provider::{ClusterOptions, Plan};

use crate::images::Images;
use crate::release::{Pod, Release};
use crate::stream::{Stream, answer_of, http_get};
use crate::trace::Trace;

/// From the command to join to the first answer of the other cluster: acceptance of the design.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long anything else may take to be seen.
const SEEN: Duration = Duration::from_mins(1);
/// Between a pod's readiness in one cluster and its first answer in the other. Mostly kubectl's and the shell's own time.
const CONVERGED: Duration = Duration::from_secs(3);
const REPETITIONS: usize = 5;
const IDS: [u32; 2] = [1, 2];

/// A server on every node behind the global Service `web`, and a Service `far` whose servers come later, if at all.
fn workloads(cluster: &str) -> String {
    let server = |name: &str, replicas: u32| {
        format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, namespace: default }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{ matchLabels: {{ app: {name} }} }}
      containers:
      - name: server
        image: {WORKLOAD}
        imagePullPolicy: IfNotPresent
        env:
        - {{ name: CLUSTER, value: {cluster} }}
        - {{ name: NODE, valueFrom: {{ fieldRef: {{ fieldPath: spec.nodeName }} }} }}
        - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        - {{ name: PORTS, value: "8080/TCP,9090/UDP" }}
        ports: [{{ name: http, containerPort: 8080 }}, {{ name: echo, containerPort: 9090, protocol: UDP }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
---
apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: default, annotations: {{ mesh.isthmus.io/global: "true" }} }}
spec:
  selector: {{ app: {name} }}
  ports:
  - {{ name: http, port: 80, targetPort: http }}
  - {{ name: echo, port: 90, targetPort: echo, protocol: UDP }}
---
"#
        )
    };
    server("web", 2) + &server("far", 0)
}

fn cluster_ip(release: &Release<'_>, service: &str) -> String {
    let object = release.kubectl().get(&["service", service, "-n", "default"]).unwrap();
    object["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

fn traces(run: &Kubernetes) -> Vec<(String, Trace)> {
    let nodes = run.clusters.iter().flat_map(|cluster| &cluster.nodes);
    nodes.map(|node| (node.name().to_owned(), Trace::of(run, node).unwrap())).collect()
}

/// Every pod of one cluster gets answers of the other by its own cluster's address of the Service, over TCP and UDP, and is
/// seen there by its own address.
fn every_pod_reaches(from: &Release<'_>, pods: &[Pod], to: &str) {
    let ip = cluster_ip(from, "web");
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

/// From a new pod's readiness in one cluster until a pod of the other gets its answer.
fn converges(serving: &Release<'_>, asking: &Stream) {
    let mut watch = serving.kubectl().command();
    let ready = r#"jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}"#;
    watch.args(["get", "pods", "-n", "default", "-l", "app=far", "--watch", "-o", ready]);
    let watch = Stream::of(watch).unwrap();
    let mut took = Vec::new();
    for _ in 0..REPETITIONS {
        let old = serving.pods("app=far", 1).unwrap().remove(0).name;
        let begun = Instant::now();
        serving.kubectl().run(&["delete", "pod", "-n", "default", &old, "--wait=false"]).unwrap();
        let (ready, new) = watch
            .first("a new pod to be ready", begun, SEEN, |line| {
                let name = line.strip_suffix(" True")?;
                (name != old).then(|| name.to_owned())
            })
            .unwrap();
        let (answered, _) = asking.first("its answer", begun, SEEN, answer_of("pod", &new)).unwrap();
        took.push(answered.saturating_duration_since(ready));
        serving.pods("app=far", 1).unwrap();
    }
    took.sort_unstable();
    println!("pod ready in {} to its answer in the other: {took:?}", serving.name());
    assert!(took[REPETITIONS / 2] <= CONVERGED, "the median of {took:?}");
}

#[test]
fn two_clusters_of_different_networks_become_one_mesh_and_part_without_a_trace() {
    if let Some(why) = requirements::missing() {
        println!("skipped: {why}");
        return;
    }
    if cgroup_mount() == Path::new("/sys/fs/cgroup") {
        println!(
            "skipped: nodes share the root of the one cgroup hierarchy here: an agent cannot tell their pods apart"
        );
        return;
    }
    let images = match Images::find() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Flannel, ProxyMode::Iptables)];
    let run = Kubernetes::up(&Plan { name: "k8smesh".parse().unwrap(), clusters, nodes: 2 }).unwrap();
    println!("two clusters of two nodes are ready after {:.1} s", run.took.as_secs_f64());
    let loading = Instant::now();
    for archive in &images.archives {
        for node in run.clusters.iter().flat_map(|cluster| &cluster.nodes) {
            node.load_image(archive).unwrap();
        }
    }
    println!("images are loaded after {:.1} s", loading.elapsed().as_secs_f64());
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
    println!("install to ready: {:.1} s", begun.elapsed().as_secs_f64());

    b.kubectl().run(&["scale", "deployment", "far", "-n", "default", "--replicas=1"]).unwrap();
    b.pods("app=far", 1).unwrap();
    let far = cluster_ip(&a, "far");
    let asking = Stream::asking(a.kubectl(), &web[0][0].name, &far).unwrap();
    let begun = a.connect(IDS[0], &b).unwrap();
    let joined = begun.elapsed();
    let (answered, _) = asking.first("the first answer", begun, SEEN, answer_of("cluster", "cluster-b")).unwrap();
    let first = answered.duration_since(begun);
    println!("connect: {:.1} s; connect to first answer: {:.1} s", joined.as_secs_f64(), first.as_secs_f64());
    assert!(first <= FIRST_ANSWER, "{first:?}");

    every_pod_reaches(&a, &web[0], "cluster-b");
    every_pod_reaches(&b, &web[1], "cluster-a");
    converges(&b, &asking);
    drop(asking);

    // Pods that came under the mesh go with it; those from before stay.
    b.kubectl().run(&["delete", "deployment", "far", "-n", "default", "--cascade=foreground"]).unwrap();
    b.pods("app=far", 0).unwrap();
    a.disconnect(b.name()).unwrap();
    b.disconnect(a.name()).unwrap();
    let begun = Instant::now();
    for release in [&a, &b] {
        println!("{}: {}", release.name(), release.uninstall().unwrap().trim());
    }
    println!("uninstalled after {:.1} s", begun.elapsed().as_secs_f64());
    same_as(&run, &before);
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
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
