//! What a mesh must refuse, through the commands that people use. Each message names the thing and what to do.

use std::time::Duration;

use topology_tests::deadline::wait_for;
use topology_tests::scenario::{Scenario, Setup};

fn refused(s: &Scenario, args: &[&str]) -> String {
    match s.meshctl(args) {
        Ok(out) => panic!("meshctl {args:?} was accepted: {out}"),
        Err(error) => format!("{error:#}"),
    }
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    println!("{text}");
}

#[test]
fn a_malformed_document_among_good_ones_is_rejected_alone_and_named() {
    let Some(s) = Setup::shop("badyaml").unwrap().start().unwrap() else { return };
    s.kill_a_replica().unwrap();
    let folder = s.lab.cluster_dir("cluster-a").join("manifests");
    let good = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n");
    let text = format!("{}---\nkind: Service\nmetadata: [not, a, map\n---\n{}", good("before"), good("after"));
    std::fs::write(folder.join("mixed.yaml"), text).unwrap();
    let status = wait_for("the document to be named", Duration::from_secs(5), || {
        let status = s.status("cluster-a")?;
        Ok(status.contains("mixed.yaml").then_some(status))
    })
    .unwrap();
    let at = status.find("mixed.yaml").unwrap();
    println!("{}", &status[at..(at + 300).min(status.len())]);
    s.connect().unwrap();
    s.end().unwrap();
}

fn variant(name: &'static str, change: impl FnOnce(&mut topology_tests::topology::Topology)) -> Option<Scenario> {
    let mut setup = Setup::shop(name).unwrap();
    change(&mut setup.topology);
    setup.start().unwrap()
}

#[test]
fn two_clusters_with_one_id_are_refused_before_any_change() {
    let Some(s) = variant("dupid", |t| t.clusters[1].id = 1) else { return };
    s.kill_a_replica().unwrap();
    let text = refused(&s, &["connect", "cluster-a", "cluster-b"]);
    assert_says(&text, &["cluster-a", "cluster-b", "id"]);
    nothing_changed(&s);
    s.end().unwrap();
}

#[test]
fn overlapping_declared_pod_prefixes_are_refused_before_any_change() {
    let Some(s) = variant("overlap", |t| t.clusters[1].pod_cidr = "10.0.0.0/14".parse().unwrap()) else { return };
    s.kill_a_replica().unwrap();
    let text = refused(&s, &["connect", "cluster-a", "cluster-b"]);
    assert_says(&text, &["cluster-a", "cluster-b", "10.1.0.0/16", "10.0.0.0/14"]);
    nothing_changed(&s);
    s.end().unwrap();
}

#[test]
fn a_cluster_cannot_be_joined_with_itself() {
    let Some(s) = Setup::shop("itself").unwrap().start().unwrap() else { return };
    s.kill_a_replica().unwrap();
    let text = refused(&s, &["connect", "cluster-a", "cluster-a"]);
    assert_says(&text, &["cluster-a"]);
    nothing_changed(&s);
    s.end().unwrap();
}

fn nothing_changed(s: &Scenario) {
    for cluster in ["cluster-a", "cluster-b"] {
        let peers = s.meshctl(&["--context", cluster, "peers", "-o", "json"]).unwrap();
        assert!(!peers.contains("\"state\""), "{cluster} has a peer: {peers}");
    }
}
