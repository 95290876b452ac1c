//! `failover` and `weights` through the whole path, on three clusters: annotation, view, Maglev table, answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use topology_tests::control_plane::PodRecord;
use topology_tests::deadline::wait_for;
use topology_tests::scenario::{Scenario, Setup};

/// From the last ready backend of a cluster going to the next cluster answering everything.
const SWITCHED_WITHIN: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(10);
/// Connections by which shares are measured; `ISTHMUS_WEIGHT_CONNECTIONS=100000` measures with more.
const CONNECTIONS: usize = 20_000;
/// How far a share may be off. With fewer connections chance alone takes some of it: three standard deviations.
fn tolerated_per_mille(count: usize) -> usize {
    if count >= 100_000 { 10 } else { 20 }
}

/// Answers by cluster, of requests that each make a connection of their own.
fn answers(s: &Scenario, client: &PodRecord, question: &str, count: usize) -> BTreeMap<String, usize> {
    let mut by_cluster = BTreeMap::new();
    for checked in s.lab.check_often(client, question.parse().unwrap(), count).unwrap() {
        let who = checked.error.map_or(checked.answer.cluster, |error| format!("error: {error}"));
        *by_cluster.entry(who).or_default() += 1;
    }
    by_cluster
}

/// Waits until `cluster` answers everything, and says how long that took.
fn wait_answered_by(s: &Scenario, client: &PodRecord, question: &str, cluster: &str) -> Duration {
    let start = Instant::now();
    wait_for(&format!("answers from {cluster} alone"), SOON, || {
        let got = answers(s, client, question, 10);
        if got.keys().eq([cluster]) { Ok(Some(())) } else { anyhow::bail!("{got:?}") }
    })
    .unwrap();
    start.elapsed()
}

fn delete_catalog(s: &Scenario, cluster: &str) {
    let pods = s.lab.pods().into_iter().filter(|pod| pod.cluster == cluster && pod.name.starts_with("catalog"));
    for pod in pods {
        s.lab.delete_pod(&pod).unwrap();
    }
}

#[test]
fn failover_goes_through_three_clusters_in_order_within_a_second_each() {
    let Some(s) = Setup::shop_of_three("ordered").unwrap().start().unwrap() else { return };
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let catalog = s.service("http", "cluster-a", "shop", "catalog", 80).unwrap();
    let control = s.lab.control("cluster-a").unwrap();
    let set = |name, value| control.annotate_service("shop", "catalog", name, value).unwrap();

    // A cluster that is not joined is said of the Service, and passed over.
    set("mesh.isthmus.io/failover", Some("cluster-x,cluster-c,cluster-b"));
    wait_for("the unknown cluster to be shown", SOON, || {
        let status = s.status("cluster-a")?;
        Ok(status.contains("names cluster-x, which is not a cluster of this mesh").then_some(()))
    })
    .unwrap();
    set("mesh.isthmus.io/failover", Some("cluster-c,cluster-b"));
    wait_answered_by(&s, &client, &catalog, "cluster-a");
    let shown = s.meshctl(&["--context", "cluster-a", "get", "services"]).unwrap();
    assert!(shown.contains("failover cluster-c, cluster-b"), "{shown}");

    for (dying, next) in [("cluster-a", "cluster-c"), ("cluster-c", "cluster-b")] {
        delete_catalog(&s, dying);
        let took = wait_answered_by(&s, &client, &catalog, next);
        println!("{dying} has no backend: {next} answers everything after {} ms", took.as_millis());
        assert!(took <= SWITCHED_WITHIN, "{took:?}");
    }
    s.end().unwrap();
}

#[test]
fn weights_are_each_clusters_share_of_connections() {
    let count = std::env::var("ISTHMUS_WEIGHT_CONNECTIONS").map_or(CONNECTIONS, |count| count.parse().unwrap());
    let Some(s) = Setup::shop_of_three("weights").unwrap().start().unwrap() else { return };
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let catalog = s.service("http", "cluster-a", "shop", "catalog", 80).unwrap();
    let control = s.lab.control("cluster-a").unwrap();
    control
        .annotate_service("shop", "catalog", "mesh.isthmus.io/weights", Some("cluster-a=70,cluster-b=20,cluster-c=10"))
        .unwrap();
    wait_for("the shares to be shown", SOON, || {
        let shown = s.meshctl(&["--context", "cluster-a", "get", "services"])?;
        Ok(shown.contains("cluster-a 2/2 70%, cluster-b 2/2 20%, cluster-c 2/2 10%").then_some(()))
    })
    .unwrap();
    wait_for("the kernel to follow", SOON, || {
        let got = answers(&s, &client, &catalog, 1_000);
        Ok((got.get("cluster-a").copied().unwrap_or_default() > 600).then_some(()))
    })
    .unwrap();
    let start = Instant::now();
    let got = answers(&s, &client, &catalog, count);
    println!("{count} connections in {:?}: {got:?}", start.elapsed());
    let per_mille = |cluster: &str| got.get(cluster).copied().unwrap_or_default() * 1_000 / count;
    for (cluster, wanted) in [("cluster-a", 700), ("cluster-b", 200), ("cluster-c", 100)] {
        let off = per_mille(cluster).abs_diff(wanted);
        assert!(off <= tolerated_per_mille(count), "{cluster}: {} per mille of {got:?}", per_mille(cluster));
    }
    s.end().unwrap();
}
