//! `meshctl connectivity test` on real clusters.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use topology_tests::deadline::wait_for;

use crate::world::{CLUSTERS, World};

const LABEL: &str = "app.kubernetes.io/component=meshctl-connectivity";
/// 2 nodes a cluster, a pod and a process on each: a pod has 2 targets and a node 1, over 2 protocols, to 2 clusters.
const WAYS: usize = 2 * 2 * (2 + 1) * 2 * 2;
const SEEN: Duration = Duration::from_mins(2);

fn nothing_is_left(world: &World<'_>) {
    for cluster in CLUSTERS {
        wait_for(&format!("no namespace of a test in {cluster}"), SEEN, || {
            let left = world.kubectl(cluster).run(&["get", "namespaces", "-l", LABEL, "-o", "name"])?;
            if left.trim().is_empty() { Ok(Some(())) } else { anyhow::bail!("{left}") }
        })
        .unwrap();
    }
}

pub(crate) fn every_way_of_pods_passes(world: &World<'_>) {
    let said = world.meshctl.run(&["connectivity", "test", CLUSTERS[0], CLUSTERS[1], "-o", "json"]);
    let rows = said.json()["rows"].as_array().unwrap().clone();
    let passed = rows.iter().filter(|row| row["passed"] == true).count();
    // Processes in the nodes' own network are not served in this version: those ways, and no other, may say so.
    let excused = |row: &serde_json::Value| {
        row["way"].as_str().unwrap_or_default().starts_with("host")
            && row["from"] != row["to"]
            && row["not_served"] == true
    };
    assert_eq!(said.code, 0, "{}", said.err);
    let failed: Vec<_> = rows.iter().filter(|row| row["passed"] != true && !excused(row)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(rows.len(), WAYS);
    println!("connectivity test: {passed} of {WAYS} ways pass; the others are of nodes' own network");
    nothing_is_left(world);
}

/// Within each cluster all is well, and between them each way has the command that joins them.
pub(crate) fn says_what_to_do_where_clusters_are_not_joined(world: &World<'_>) {
    let args = ["connectivity", "test", "--context", CLUSTERS[0], "--destination-context", CLUSTERS[1], "--wait", "1"];
    let said = world.meshctl.run(&[&args[..], &["--answer-timeout", "1", "-o", "junit"]].concat());
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(said.out.contains(&format!("tests=\"{WAYS}\"")), "{}", said.out);
    assert!(said.out.contains(&format!("failures=\"{}\"", WAYS / 2)), "{}", said.out);
    assert!(said.out.contains("cluster-a is not joined to cluster-b"), "{}", said.out);
    assert!(said.out.contains("do: meshctl connect cluster-a cluster-b"), "{}", said.out);
    nothing_is_left(world);
}

pub(crate) fn is_removed_after_an_interrupt(world: &World<'_>) {
    let mut test = world.meshctl.command(&["connectivity", "test", CLUSTERS[0], CLUSTERS[1]]);
    let mut running = test.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for("pods of the test", SEEN, || {
        let made = world.kubectl(CLUSTERS[0]).run(&["get", "pods", "-A", "-l", LABEL, "-o", "name"])?;
        Ok((!made.trim().is_empty()).then_some(()))
    })
    .unwrap();
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(1));
    nothing_is_left(world);
    println!("connectivity test: nothing is left after Ctrl-C");
}
