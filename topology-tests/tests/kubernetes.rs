//! Real Kubernetes clusters for tests: that they are what they say, and that nothing is left of them. Needs root, containerd
//! and Kubernetes' own programs (`cargo xtask k8s-tools`); a test that cannot run says `skipped: why`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_tools::Tools;
use topology_tests::binaries::Binaries;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::images;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::kubectl::Kubectl;
use topology_tests::kubernetes::workload::{Workload, manifests, service};
use topology_tests::kubernetes::{Kubernetes, requirements};
use topology_tests::provider::{
    ClusterOptions, Clusters, Kind, NamespaceLab, Part, Plan, PodState, Provider, RealNodes,
};

/// How long a pod may take from its object to its readiness, images being there.
const POD_READY: Duration = Duration::from_mins(1);
/// How long what was started a moment ago may take to answer through a Service.
const ANSWERED: Duration = Duration::from_secs(30);
const SPREAD: &str = "default";

/// A server on every node, a Service over them, and one pod to ask from.
fn web(cluster: &str) -> String {
    let pods = Workload { kind: "Deployment", name: "web", cluster, ports: "8080/TCP", replicas: 2 };
    manifests([&pods.spread(), &service("web", &[("http", "TCP", 80, 8080)])])
}

/// Waits until so many pods of a cluster are ready.
fn ready_pods(clusters: &dyn Clusters, cluster: &str, count: usize) -> Vec<PodState> {
    wait_for(&format!("{count} pods of {cluster} to be ready"), POD_READY, || {
        let pods = clusters.pods(cluster, SPREAD)?;
        let ready = pods.iter().filter(|pod| pod.is_ready && pod.ip.is_some()).count();
        if ready == count && pods.len() == count { Ok(Some(pods)) } else { anyhow::bail!("{pods:?}") }
    })
    .unwrap()
}

/// A GET that gives up. Debian 12's busybox crashes in a `wget` that is told a time itself (`-T`).
fn get(url: &str) -> [&str; 7] {
    ["timeout", "3", "wget", "-q", "-O", "-", url]
}

/// A GET from within a pod until it is answered, and what the answer says of who gave it.
fn ask(clusters: &dyn Clusters, cluster: &str, pod: &PodState, url: &str) -> serde_json::Value {
    wait_for(&format!("an answer of {url} in {}", pod.name), ANSWERED, || {
        let said = clusters.exec(cluster, &pod.namespace, &pod.name, &get(url))?;
        Ok(Some(serde_json::from_str(&said)?))
    })
    .unwrap()
}

/// Pods on two nodes reach each other, and a Service by cluster IP and by name, in each cluster.
fn pods_and_services_work(clusters: &dyn Clusters) {
    for cluster in clusters.clusters() {
        clusters.apply(&cluster, &web(&cluster)).unwrap();
    }
    for cluster in clusters.clusters() {
        let pods = ready_pods(clusters, &cluster, 2);
        let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
        assert_eq!(nodes.len(), 2, "one pod a node: {pods:?}");
        for (asking, asked) in [(0, 1), (1, 0)] {
            let url = format!("http://{}:8080/", pods[asked].ip.unwrap());
            let answer = ask(clusters, &cluster, &pods[asking], &url);
            assert_eq!(answer["pod"], pods[asked].name.as_str(), "{answer}");
        }
        let kubectl =
            Kubectl::new(&Tools::find().unwrap().program("kubectl").unwrap(), &clusters.kubeconfig(&cluster).unwrap());
        let service = kubectl.get(&["service", "web", "-n", SPREAD]).unwrap();
        let ip = service["spec"]["clusterIP"].as_str().unwrap();
        for name in [ip, "web", "web.default", "web.default.svc.cluster.local"] {
            for pod in &pods {
                let answer = ask(clusters, &cluster, pod, &format!("http://{name}/"));
                assert_eq!(answer["cluster"], cluster.as_str(), "{answer}");
            }
        }
        // Both servers answer by the Service's address, whoever asks.
        let both = wait_for("both servers to answer", ANSWERED, || {
            let got: BTreeSet<String> = (0..8)
                .map(|_| ask(clusters, &cluster, &pods[0], &format!("http://{ip}/"))["pod"].to_string())
                .collect();
            Ok((got.len() == 2).then_some(()))
        });
        both.unwrap();
    }
}

/// A provider that cannot work here is skipped, with its reason.
fn up(provider: &dyn Provider, plan: &Plan) -> Option<Box<dyn Clusters>> {
    if let Some(why) = provider.missing() {
        println!("skipped: {}: {why}", provider.name());
        return None;
    }
    let start = Instant::now();
    let clusters = provider.up(plan).unwrap();
    println!(
        "{}: {} clusters ready after {:.1} s",
        provider.name(),
        plan.clusters.len(),
        start.elapsed().as_secs_f64()
    );
    Some(clusters)
}

#[test]
fn two_real_clusters_come_up_serve_and_leave_nothing() {
    if let Some(why) = requirements::missing() {
        println!("skipped: {why}");
        return;
    }
    let before = Machine::look();
    let plan = Plan::pair("k8spair".parse().unwrap());
    let run = Kubernetes::up(&plan).unwrap();
    println!("two clusters of two nodes are ready after {:.1} s", run.took.as_secs_f64());
    for cluster in &run.clusters {
        let steps: Vec<_> =
            cluster.times.iter().map(|(step, at)| format!("{step} {:.1} s", at.as_secs_f64())).collect();
        println!("{}: {}", cluster.plan.name, steps.join(", "));
    }
    pods_and_services_work(&run);
    let start = Instant::now();
    let left = run.down().unwrap();
    println!("down after {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(Machine::look(), before, "the machine is as it was");
}

#[test]
fn flannel_and_a_kept_client_address_work_on_real_nodes() {
    let asked = ClusterOptions { cni: Cni::Flannel, proxy: ProxyMode::Nftables, masquerade: false };
    let plan = Plan { name: "k8sflannel".parse().unwrap(), clusters: vec![asked], nodes: 2 };
    let Some(clusters) = up(&RealNodes, &plan) else { return };
    pods_and_services_work(&*clusters);
    let pods = ready_pods(&*clusters, "cluster-a", 2);
    let answer = ask(&*clusters, "cluster-a", &pods[0], &format!("http://{}:8080/", pods[1].ip.unwrap()));
    let seen = answer["peer"].as_str().unwrap();
    assert!(seen.starts_with(&format!("{}:", pods[0].ip.unwrap())), "the client's own address: {answer}");
    assert_eq!(clusters.down().unwrap(), Vec::<String>::new());
}

#[test]
fn parts_that_were_killed_come_back_and_pods_live_through_it() {
    let asked = ClusterOptions { cni: Cni::Bridge, proxy: ProxyMode::Nftables, masquerade: true };
    let plan = Plan { name: "k8sparts".parse().unwrap(), clusters: vec![asked], nodes: 2 };
    let Some(clusters) = up(&RealNodes, &plan) else { return };
    let (clusters, cluster) = (&*clusters, "cluster-a");
    clusters.apply(cluster, &web(cluster)).unwrap();
    let pods = ready_pods(clusters, cluster, 2);
    let node = pods[0].node.as_str();
    let parts =
        [Part::Kubelet(node), Part::Containerd(node), Part::KubeProxy(node), Part::KubeApiserver, Part::Scheduler];
    for part in parts {
        let start = Instant::now();
        clusters.kill(cluster, part).unwrap();
        clusters.start_again(cluster, part).unwrap();
        println!("{part:?} is back after {:.1} s", start.elapsed().as_secs_f64());
        ask(clusters, cluster, &pods[0], "http://web/");
        let names = |pods: &[PodState]| pods.iter().map(|pod| (pod.name.clone(), pod.ip)).collect::<BTreeSet<_>>();
        assert_eq!(names(&ready_pods(clusters, cluster, 2)), names(&pods), "no pod was replaced");
    }
    let start = Instant::now();
    clusters.kill(cluster, Part::Node(node)).unwrap();
    ask(clusters, cluster, &pods[1], &format!("http://{}:8080/", pods[1].ip.unwrap()));
    clusters.start_again(cluster, Part::Node(node)).unwrap();
    // Its pod has another address: what the network was is lost with the power.
    let back = wait_for("the node's pod to serve again", POD_READY, || {
        let again = clusters.pods(cluster, SPREAD)?;
        let pod = again.into_iter().find(|pod| pod.node == node && pod.is_ready && pod.ip != pods[0].ip);
        let Some(pod) = pod else { anyhow::bail!("not yet") };
        let url = format!("http://{}:8080/", pod.ip.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into()));
        clusters.exec(cluster, SPREAD, &pods[1].name, &get(&url)).map(|_| Some(()))
    });
    back.unwrap();
    println!("the node and its pod are back after {:.1} s", start.elapsed().as_secs_f64());
}

#[test]
fn the_namespace_lab_plays_the_same_pods_and_refuses_what_it_has_not() {
    let asked = |cni| ClusterOptions { cni, proxy: ProxyMode::Nftables, masquerade: true };
    let plan = Plan { name: "k8slab".parse().unwrap(), clusters: vec![asked(Cni::Bridge), asked(Cni::Ptp)], nodes: 2 };
    let Some(clusters) = up(&NamespaceLab, &plan) else { return };
    for cluster in clusters.clusters() {
        clusters.apply(&cluster, &web(&cluster)).unwrap();
        let pods = ready_pods(&*clusters, &cluster, 2);
        let url = format!("http://{}:8080/", pods[1].ip.unwrap());
        let said = clusters.exec(&cluster, SPREAD, &pods[0].name, &["curl", "-sS", "-m", "5", &url]).unwrap();
        assert!(said.contains(&pods[1].name), "{said}");
        let refused = clusters.kubeconfig(&cluster).unwrap_err().to_string();
        assert!(refused.contains("no API server"), "{refused}");
    }
    assert_eq!(clusters.down().unwrap(), Vec::<String>::new());
    let flannel = Plan { clusters: vec![asked(Cni::Flannel)], ..plan };
    let refused = NamespaceLab.up(&flannel).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("ask for bridge or ptp"), "{refused}");
}

#[test]
fn two_clusters_of_kind_serve_as_well() {
    let plan = Plan::pair("k8skind".parse().unwrap());
    let Some(clusters) = up(&Kind, &plan) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (binaries, tools) = (Binaries::beside_this_one().unwrap(), Tools::find().unwrap());
    let archives =
        images::write_all(folder.path(), &tools.program("coredns").unwrap(), &binaries.find("lab-workload").unwrap());
    for archive in archives.unwrap() {
        clusters.load_image(&archive).unwrap();
    }
    pods_and_services_work(&*clusters);
    assert_eq!(clusters.down().unwrap(), Vec::<String>::new());
}

/// What a node's programs would leave at their usual places, were these not the node's own.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    files: BTreeSet<String>,
}

impl Machine {
    fn look() -> Self {
        let places = [
            "/etc/cni",
            "/opt/cni",
            "/run/containerd",
            "/run/flannel",
            "/run/netns",
            "/var/lib/cni",
            "/var/lib/kubelet",
            "/var/log/containers",
            "/var/log/pods",
        ];
        let mut files = BTreeSet::new();
        for place in places {
            let Ok(entries) = std::fs::read_dir(place) else { continue };
            files.insert(place.to_owned());
            files.extend(entries.flatten().map(|entry| entry.path().display().to_string()));
        }
        // Labs of others come and go meanwhile; the folder itself is made by the first that names a namespace.
        files.retain(|path| path != "/run/netns" && !path.starts_with("/run/netns/isthmus-"));
        Self { files }
    }
}
