//! `affinity` through the whole path: annotation, view, Maglev table, answer.

use std::collections::BTreeSet;
use std::time::Duration;

use topology_tests::control_plane::PodRecord;
use topology_tests::deadline::wait_for;
use topology_tests::scenario::{Scenario, Setup};

/// Which clusters answer forty requests to the global service.
fn answering(s: &Scenario, client: &PodRecord, question: &str) -> BTreeSet<String> {
    let questions: Vec<_> = (0..40).map(|_| question.parse().unwrap()).collect();
    let answers = s.lab.check_from(client, &questions, 100).unwrap();
    answers.into_iter().filter(|a| a.error.is_none()).map(|a| a.answer.cluster).collect()
}

fn wait_answering(s: &Scenario, client: &PodRecord, question: &str, want: &[&str]) {
    let want: BTreeSet<String> = want.iter().map(|c| (*c).to_owned()).collect();
    wait_for(&format!("answers from {want:?}"), Duration::from_secs(5), || {
        let got = answering(s, client, question);
        if got == want { Ok(Some(())) } else { anyhow::bail!("answers from {got:?}") }
    })
    .unwrap();
}

#[test]
fn affinity_prefers_a_cluster_and_falls_back_when_it_has_no_backend() {
    let Some(s) = Setup::shop("affinity").unwrap().start().unwrap() else { return };
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let catalog = s.service("http", "cluster-a", "shop", "catalog", 80).unwrap();
    let control = s.lab.control("cluster-a").unwrap();
    let set = |value| control.annotate_service("shop", "catalog", "mesh.isthmus.io/affinity", value).unwrap();

    wait_answering(&s, &client, &catalog, &["cluster-a", "cluster-b"]);
    set(Some("local"));
    wait_answering(&s, &client, &catalog, &["cluster-a"]);
    set(Some("remote"));
    wait_answering(&s, &client, &catalog, &["cluster-b"]);

    // An affinity that nobody knows leaves the Service out of the mesh's hands and says so; the rest goes on.
    set(Some("nearest"));
    wait_for("the error to be shown", Duration::from_secs(5), || {
        let status = s.status("cluster-a")?;
        Ok(status.contains("\\\"nearest\\\" is not an affinity").then_some(()))
    })
    .unwrap();

    set(Some("local"));
    wait_answering(&s, &client, &catalog, &["cluster-a"]);
    for pod in s.lab.pods().into_iter().filter(|p| p.cluster == "cluster-a" && p.name.starts_with("catalog")) {
        s.lab.delete_pod(&pod).unwrap();
    }
    wait_answering(&s, &client, &catalog, &["cluster-b"]);
    s.end().unwrap();
}

#[test]
fn a_service_that_is_not_shared_is_not_answered_by_its_cluster() {
    let Some(s) = Setup::shop("unshared").unwrap().start().unwrap() else { return };
    s.connect().unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    let catalog = s.service("http", "cluster-a", "shop", "catalog", 80).unwrap();
    wait_answering(&s, &client, &catalog, &["cluster-a", "cluster-b"]);
    let remote = s.lab.control("cluster-b").unwrap();
    remote.annotate_service("shop", "catalog", "service.cilium.io/shared", Some("false")).unwrap();
    wait_answering(&s, &client, &catalog, &["cluster-a"]);
    s.end().unwrap();
}
