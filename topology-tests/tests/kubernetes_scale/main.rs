//! What a larger cluster costs: the mesh on two real Kubernetes clusters, in one of them fake nodes and pods through its API
//! server (`ISTHMUS_KUBE_SCALE` Services, 500 if it does not say, with ten endpoints each); processor time and memory of the mesh's
//! processes and requests to the API servers, while nothing happens and while pods become ready and unready; and restarts of
//! kube-apiserver and of mesh-apiserver, after which nothing is exported again. Needs what `kubernetes_mesh` needs, and says `skipped: why` without it.

mod api;
mod backends;
mod figures;
mod fill;
mod plan;
mod restart;
mod side;
mod usage;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use topology_tests::bench::stats::rounded;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::images::WORKLOAD;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::processes::check_from;
use topology_tests::kubernetes::release::{Images, Release, missing};
use topology_tests::provider::{ClusterOptions, Plan};

use crate::backends::Backends;
use crate::figures::Figures;
use crate::plan::{ENDPOINTS_OF_A_SERVICE, MOST_SERVICES, NODES, Pod};
use crate::restart::{Whose, restart};
use crate::side::Side;
use crate::usage::{Begun, Window};

const SERVICES: usize = 500;
/// For how long usage is counted, while nothing happens and while pods flip.
const WINDOW: Duration = Duration::from_mins(1);
const FLIPS_A_SECOND: u32 = 20;
/// How long the whole may take to be in the other cluster: Kubernetes' controller writes 20 slices a second.
const LOADED: Duration = Duration::from_mins(5);
const SEEN: Duration = Duration::from_mins(1);
/// A pod's address, its Service's endpoints in both layouts, and what a restart may leave to chance.
const HANDFUL: f64 = 10.0;

fn services() -> usize {
    let said = std::env::var("ISTHMUS_KUBE_SCALE").ok();
    let services = said.map_or(SERVICES, |said| said.parse().expect("ISTHMUS_KUBE_SCALE is a number of Services"));
    assert!((2..=MOST_SERVICES).contains(&services), "ISTHMUS_KUBE_SCALE is 2 to {MOST_SERVICES}");
    services
}

/// A real pod and its Service. The path to the serving cluster is proved by it: a cluster of which no node answers is taken for
/// dead, and fake nodes answer nobody.
fn real_pod(cluster: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: real, namespace: default }}
spec:
  selector: {{ matchLabels: {{ app: real }} }}
  template:
    metadata: {{ labels: {{ app: real }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: server
        image: {WORKLOAD}
        imagePullPolicy: IfNotPresent
        env:
        - {{ name: CLUSTER, value: {cluster} }}
        - {{ name: NODE, valueFrom: {{ fieldRef: {{ fieldPath: spec.nodeName }} }} }}
        - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        - {{ name: PORTS, value: 8080/TCP }}
---
apiVersion: v1
kind: Service
metadata:
  name: real
  namespace: default
  annotations: {{ mesh.isthmus.io/global: "true", mesh.isthmus.io/affinity: remote }}
spec:
  selector: {{ app: real }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}]
"#
    )
}

/// The chart in both, and one mesh of them.
fn install_and_join(sides: [&Side<'_>; 2], images: &Images) -> Result<()> {
    let install = |(side, id): (&Side<'_>, u32)| {
        side.release.install_with(images, id, &side.values(id)).and_then(|()| side.release.ready())
    };
    let installed: Vec<Result<()>> = std::thread::scope(|scope| {
        let installs: Vec<_> = sides.into_iter().zip(1..).map(|one| scope.spawn(move || install(one))).collect();
        installs.into_iter().map(|one| one.join().map_err(|_panic| anyhow!("an install panicked"))?).collect()
    });
    installed.into_iter().collect::<Result<Vec<()>>>()?;
    sides[0].release.connect(1, &sides[1].release).map(drop)
}

/// Waits until the real pod of one cluster gets an answer of the other's.
fn answered(run: &Kubernetes, from: &Side<'_>, by: &Release<'_>) -> Result<()> {
    let pods = from.release.pods("app=real", 1)?;
    let place = run.pod_place(from.node(), &pods[0].name)?;
    let question = format!("http://{}:80", from.release.cluster_ip("real")?).parse()?;
    wait_for(&format!("an answer of {} in {}", by.name(), from.release.name()), SEEN, || {
        let answers = check_from(&place, &[question])?;
        let is_there = answers.iter().any(|answer| answer.error.is_none() && answer.answer.cluster == by.name());
        ensure!(is_there, "{answers:?}");
        Ok(Some(()))
    })
}

/// As counters are read.
fn count(of: usize) -> f64 {
    u32::try_from(of).map_or(f64::MAX, f64::from)
}

/// A window of usage, whose end is the end of what is done in it.
fn window(run: &Kubernetes, sides: [&Side<'_>; 2], during: impl FnOnce() -> Result<()>) -> Result<Window> {
    let begun = Begun::now(run, sides)?;
    during()?;
    begun.end()
}

#[test]
fn a_cluster_of_many_services_costs_little_and_restarts_of_its_api_servers_export_nothing_again() {
    let images = match missing() {
        Ok(images) => images,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let (whole, services) = (Instant::now(), services());
    let cluster = |cni| ClusterOptions { cni, proxy: ProxyMode::Nftables, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge), cluster(Cni::Ptp)];
    let run = Kubernetes::up(&Plan { name: "k8sscale".parse().unwrap(), clusters, nodes: 1 }).unwrap();
    images.load(&run).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let [a, b] = ["cluster-a", "cluster-b"].map(|name| Side::new(&run, name, &runtime).unwrap());
    install_and_join([&a, &b], &images).unwrap();
    for side in [&a, &b] {
        side.release.kubectl().apply(&real_pod(side.release.name())).unwrap();
    }
    for (from, by) in [(&a, &b), (&b, &a)] {
        answered(&run, from, &by.release).unwrap();
    }
    eprintln!("two joined clusters after {:.1} s", whole.elapsed().as_secs_f64());

    let figures = measure(&run, &a, &b, services, &images, whole).unwrap();
    figures.print();
    assert!(figures.restarts[0].keys_before >= count(figures.endpoints), "{:?}", figures.restarts);
    for restart in &figures.restarts {
        assert!(restart.keys_written <= HANDFUL, "exported again: {restart:?}");
        assert!(restart.fewest_backends >= restart.backends, "the other cluster lost backends: {restart:?}");
    }
    for (from, by) in [(&a, &b), (&b, &a)] {
        answered(&run, from, &by.release).unwrap();
    }
    // All pods of the mesh are ready, so none was put on a fake node; and only the one that was killed was started again.
    for (side, killed) in [(&a, 1), (&b, 0)] {
        let restarts = side.release.restarts().unwrap();
        assert_eq!(restarts.values().sum::<u64>(), killed, "{restarts:?}");
    }
    figures.write().unwrap();
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
}

fn measure(
    run: &Kubernetes,
    a: &Side<'_>,
    b: &Side<'_>,
    services: usize,
    images: &Images,
    whole: Instant,
) -> Result<Figures> {
    let endpoints = services * ENDPOINTS_OF_A_SERVICE;
    let begun = Instant::now();
    let addresses: Vec<Ipv4Addr> = b.wait_for(fill::services(&b.api, services))?;
    let _alive = a.wait_for(fill::nodes(&a.api, a.plan()))?;
    a.wait_for(fill::pods(&a.api, a.plan(), services))?;
    a.wait_for(fill::services(&a.api, services))?;
    let made = begun.elapsed();
    let map = Backends::open(b.node(), &addresses)?;
    let (in_slices, in_the_other_map) = std::thread::scope(|scope| {
        let seen = scope.spawn(|| map.reach(endpoints, LOADED));
        let sliced = a.wait_for(async {
            let sliced = tokio::time::timeout(LOADED, fill::sliced(&a.api, endpoints)).await;
            sliced.context("Kubernetes' controller has not written all endpoints")?
        });
        let seen = seen.join().map_err(|_panic| anyhow!("the look at the map panicked"))??;
        sliced.map(|sliced| (sliced - begun, seen - begun))
    })?;
    // Services, slices, pods and nodes.
    let objects = count(2 * services + endpoints + NODES);
    a.until("all objects to be exported", |counters| {
        counters.sum("isthmus_source_objects") >= objects
            && counters.sum("isthmus_export_keys_total") >= objects
            && counters.sum("isthmus_export_errors") < 1.0
    })?;
    eprintln!("all of it is in the other cluster after {:.1} s", in_the_other_map.as_secs_f64());
    a.still()?;

    // What is measured is a time in which nothing happens: there is nothing to wait for.
    let quiet = window(run, [a, b], || {
        std::thread::sleep(WINDOW);
        Ok(())
    })?;
    let mut flips = 0;
    let change = window(run, [a, b], || {
        flips = a.wait_for(fill::flip(&a.api, a.plan(), services, FLIPS_A_SECOND, WINDOW))?;
        Ok(())
    })?;
    map.reach(endpoints, LOADED).context("all endpoints to be ready again")?;
    a.still()?;
    let mut restarts = Vec::new();
    for (n, whose) in [Whose::KubeApiserver, Whose::MeshApiserver].into_iter().enumerate() {
        let more = Pod { service: n, index: ENDPOINTS_OF_A_SERVICE };
        let restart = restart(run, whose, a, &map, more)?;
        eprintln!("{whose}: {restart:?}");
        restarts.push(restart);
    }
    let seconds = |time: Duration| rounded(time.as_secs_f64());
    Ok(Figures {
        profile: images.profile.clone(),
        services,
        endpoints,
        fake_nodes: NODES,
        made: seconds(made),
        in_slices: seconds(in_slices),
        in_the_other_map: seconds(in_the_other_map),
        quiet,
        change,
        flips,
        restarts,
        whole_test: seconds(whole.elapsed()),
    })
}
