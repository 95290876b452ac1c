//! A cluster goes over to another CA while three clusters serve requests: no request fails and nothing is read anew. Taken
//! back, and killed, at each stage.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use topology_tests::components;
use topology_tests::deadline::wait_for;
use topology_tests::scenario::{Scenario, Setup};

use crate::restarts::failures_during;

const SOON: Duration = Duration::from_secs(20);
/// From its start to its end, with ten seconds in which all trust both.
const ROTATED: Duration = Duration::from_secs(90);
const CLUSTERS: [&str; 3] = ["cluster-a", "cluster-b", "cluster-c"];

/// Three clusters that serve each other, with every replica of cluster-a there: one that is away holds a rotation.
fn joined(name: &'static str) -> Option<Scenario> {
    let s = Setup::shop_of_three(name).unwrap().start().unwrap()?;
    s.connect().unwrap();
    s.mesh.start_apiservers(&s.lab, "cluster-a").unwrap();
    s.mesh.wait_apiservers_ready(&s.lab, "cluster-a").unwrap();
    let client = s.lab.pod("frontend-0").unwrap();
    for (cluster, namespace, service) in [("cluster-a", "shop", "catalog"), ("cluster-b", "books", "ledger")] {
        let question = s.service("http", cluster, namespace, service, 80).unwrap();
        s.ask_until_answered(&client, &question, SOON).unwrap();
    }
    wait_for("every certificate to be shown and well", SOON, || {
        let (code, shown) = certs_status(&s)?;
        let holders: BTreeSet<&str> =
            shown["certificates"].as_array().into_iter().flatten().filter_map(|row| row["holder"].as_str()).collect();
        let has = |holder: &str| holders.iter().any(|known| known.starts_with(holder));
        let is_whole = has("agent a1") && has("agent a2") && has("replica 3") && has("peer cluster-c");
        if code == 0 && is_whole { Ok(Some(())) } else { anyhow::bail!("exit {code}: {shown}") }
    })
    .unwrap();
    Some(s)
}

fn meshctl(s: &Scenario, args: &[&str]) -> Command {
    let program = s.lab.binaries.find("meshctl").unwrap();
    components::meshctl(&program, s.mesh.config(), &[&["--context", "cluster-a"], args].concat())
}

/// The exit code of `meshctl certs status` of cluster-a, and what it shows.
fn certs_status(s: &Scenario) -> anyhow::Result<(i32, Value)> {
    let output = meshctl(s, &["certs", "status", "-o", "json"]).output()?;
    let code = output.status.code().unwrap_or(-1);
    let shown: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| anyhow::anyhow!("exit {code}: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((code, shown[0].clone()))
}

/// `None` while it cannot be asked: a replica may just have been killed.
fn stage(s: &Scenario) -> Option<String> {
    Some(certs_status(s).ok()?.1["rotation"]["stage"].as_str()?.to_owned())
}

fn begin(s: &Scenario) {
    let begun = meshctl(s, &["certs", "rotate", "--ca", "--no-wait", "-o", "json"]).output().unwrap();
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
}

fn until(s: &Scenario, wanted: &str) -> Duration {
    let start = Instant::now();
    wait_for(&format!("stage {wanted}"), ROTATED, || {
        let (_, shown) = certs_status(s)?;
        let stage = shown["rotation"]["stage"].as_str().unwrap_or_default();
        if stage == wanted { Ok(Some(())) } else { anyhow::bail!("{}", shown["rotation"]) }
    })
    .unwrap();
    start.elapsed()
}

/// How often each cluster has read something of each other one anew.
fn relists(s: &Scenario) -> u64 {
    let of = |cluster: &str| -> u64 {
        let shown: Value = serde_json::from_str(&s.status(cluster).unwrap()).unwrap();
        let peers = shown["clusters"][0]["peers"].as_array().unwrap().clone();
        assert_eq!(peers.len(), 2, "{shown}");
        peers.iter().map(|peer| peer["relists"].as_u64().unwrap()).sum()
    };
    CLUSTERS.iter().map(|cluster| of(cluster)).sum()
}

/// The hashes of the CAs that are trusted for cluster-a, by each of the others.
fn trusted_elsewhere(s: &Scenario) -> BTreeSet<String> {
    let of = |cluster: &&str| -> Vec<String> {
        let program = s.lab.binaries.find("meshctl").unwrap();
        let args = ["--context", cluster, "certs", "status", "-o", "json"];
        let output = components::meshctl(&program, s.mesh.config(), &args).output().unwrap();
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = shown[0]["certificates"].as_array().unwrap().iter();
        let of_a = rows.filter(|row| row["holder"] == "peer cluster-a");
        of_a.map(|row| row["ca"].as_str().unwrap().to_owned()).collect()
    };
    CLUSTERS[1..].iter().flat_map(of).collect()
}

#[test]
fn a_cluster_goes_over_to_another_ca_under_load_and_nothing_fails_nor_is_read_anew() {
    let Some(s) = joined("rotation") else { return };
    let before = trusted_elsewhere(&s);
    let failures = failures_during(&s, || {
        let start = Instant::now();
        let done = meshctl(&s, &["certs", "rotate", "--ca", "--wait", "90"]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        println!("{}{said}rotated in {:?}", String::from_utf8_lossy(&done.stdout), start.elapsed());
        assert!(done.status.success(), "{said}");
        for part in ["overlap", "switch"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let renewed = meshctl(&s, &["certs", "rotate", "--leaf"]).output().unwrap();
        assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(relists(&s), 0);
    let after = trusted_elsewhere(&s);
    assert!(after.len() == 1 && after.is_disjoint(&before), "{before:?} then {after:?}");
    let (code, shown) = certs_status(&s).unwrap();
    assert_eq!((code, &shown["rotation"]["stage"]), (0, &Value::from("done")), "{shown}");
    let end = s.apiserver_metric("cluster-a", 1, "isthmus_certificate_expiry_timestamp_seconds", "remote-cluster-a");
    assert!(end.unwrap() > 1e9);
    let end = s.agent_metric("a1", "isthmus_certificate_expiry_timestamp_seconds", "agent-a1").unwrap();
    assert!(end > 1e9);
    s.end().unwrap();
}

#[test]
fn a_rotation_is_taken_back_at_each_stage_and_the_old_ca_is_the_only_one_again() {
    let Some(s) = joined("rotaback") else { return };
    let before = trusted_elsewhere(&s);
    let is_as_before = || {
        until(&s, "aborted");
        wait_for("the old CA alone", SOON, || {
            let (code, shown) = certs_status(&s)?;
            let now = trusted_elsewhere(&s);
            if code == 0 && now == before { Ok(Some(())) } else { anyhow::bail!("exit {code}, {now:?}: {shown}") }
        })
        .unwrap();
    };
    let take_back = || {
        let aborted = meshctl(&s, &["certs", "rotate", "--ca", "--abort"]).output().unwrap();
        assert!(aborted.status.success(), "{}", String::from_utf8_lossy(&aborted.stderr));
    };
    let failures = failures_during(&s, || {
        // An agent that is away holds the first stage, and is named.
        s.mesh.kill_agent("a2").unwrap();
        begin(&s);
        wait_for("the agent to be named", SOON, || {
            let (code, shown) = certs_status(&s)?;
            let awaited = shown["rotation"]["awaited"].to_string();
            let is_named = code == 2 && awaited.contains("agent a2") && shown["rotation"]["stage"] == "distribute";
            if is_named { Ok(Some(())) } else { anyhow::bail!("exit {code}: {shown}") }
        })
        .unwrap();
        take_back();
        s.mesh.start_agent(&s.lab, "a2").unwrap();
        s.mesh.wait_agent_ready(&s.lab, "a2").unwrap();
        is_as_before();
        for at in ["overlap", "switch"] {
            begin(&s);
            until(&s, at);
            take_back();
            is_as_before();
        }
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(relists(&s), 0);
    s.end().unwrap();
}

#[test]
fn what_is_killed_at_any_stage_holds_the_rotation_until_it_is_back_and_costs_nothing() {
    let Some(s) = joined("rotakill") else { return };
    let failures = failures_during(&s, || {
        let mut watching = meshctl(&s, &["certs", "rotate", "--ca"]).spawn().unwrap();
        let mut killed = BTreeSet::new();
        wait_for("the end of the rotation", ROTATED * 2, || {
            let Some(stage) = stage(&s) else { anyhow::bail!("it cannot be asked now") };
            if stage == "done" {
                return Ok(Some(()));
            }
            if killed.insert(stage.clone()) {
                // Whoever conducts it, an agent, and the command that began it.
                let conductor = s.mesh.controller(&s.lab, "cluster-a")?;
                s.mesh.kill_apiserver("cluster-a", conductor)?;
                s.mesh.kill_agent("a2")?;
                watching.kill()?;
                s.mesh.start_apiservers(&s.lab, "cluster-a")?;
                s.mesh.start_agent(&s.lab, "a2")?;
                s.mesh.wait_apiservers_ready(&s.lab, "cluster-a")?;
                s.mesh.wait_agent_ready(&s.lab, "a2")?;
            }
            anyhow::bail!("{stage}")
        })
        .unwrap();
        watching.wait().unwrap();
        println!("killed at {killed:?}");
        for stage in ["distribute", "overlap", "switch"] {
            assert!(killed.contains(stage), "{stage} went by unseen: {killed:?}");
        }
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(relists(&s), 0);
    let after = trusted_elsewhere(&s);
    assert_eq!(after.len(), 1);
    s.end().unwrap();
}
