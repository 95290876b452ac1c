//! The lab by itself, before any mesh: what it promises to every scenario. Needs root; says so when it is not.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly, and says why it was skipped")]

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use topology_tests::control_plane::PodRecord;
use topology_tests::deadline::{wait_for, wait_until};
use topology_tests::inject::Packet;
use topology_tests::lab::{Lab, Options, owner};
use topology_tests::load::check::{Checked, Question};
use topology_tests::load::record::Kind;
use topology_tests::load::{Plan, Target};
use topology_tests::manifest::Manifests;
use topology_tests::names::LabName;
use topology_tests::topology::Topology;
use topology_tests::{requirements, teardown};

const READY: Duration = Duration::from_secs(20);

/// A lab with the example shop, or `None` with the reason on standard output.
fn shop(name: &str) -> Option<Lab> {
    if let Some(why) = requirements::missing() {
        println!("skipped: {why}");
        return None;
    }
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/shop");
    let manifests: BTreeMap<String, Manifests> = ["cluster-a", "cluster-b"]
        .map(|cluster| (cluster.to_owned(), Manifests::load(&shop.join(cluster)).unwrap()))
        .into();
    let name: LabName = name.parse().unwrap();
    let lab = Lab::up(Options { name, topology: Topology::pair(), manifests }).unwrap();
    lab.wait_pods_ready(READY).unwrap();
    Some(lab)
}

fn ask(lab: &Lab, client: &PodRecord, questions: &[String], bytes: usize) -> Vec<Checked> {
    let questions: Vec<Question> = questions.iter().map(|text| text.parse().unwrap()).collect();
    lab.check_from(client, &questions, bytes).unwrap()
}

fn slice_conditions(lab: &Lab, pod: &str) -> Value {
    let file = lab.cluster_dir("cluster-a").join("manifests/endpointslice_shop_catalog-0.json");
    let slice: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let endpoints = slice["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["targetRef"]["name"] == pod).unwrap()["conditions"].clone()
}

#[test]
fn pods_of_one_cluster_reach_each_other_by_every_protocol_and_nothing_remains_afterwards() {
    let start = Instant::now();
    let Some(lab) = shop("lone") else { return };
    println!("up and ready in {:?}", start.elapsed());

    let (frontend, catalog) = (lab.pod("frontend-0").unwrap(), lab.pod("cluster-a/catalog-0").unwrap());
    let ip = catalog.ip.unwrap();
    let same_node = ask(&lab, &frontend, &[format!("http://{ip}:8080"), format!("grpc://{ip}:9090")], 1 << 20);
    assert_eq!(frontend.node, catalog.node);
    for checked in &same_node {
        assert_eq!(checked.error, None, "{checked:?}");
        assert_eq!((checked.answer.pod.as_str(), checked.answer.cluster.as_str()), ("catalog-0", "cluster-a"));
        assert!(checked.answer.peer.starts_with(&format!("{}:", frontend.ip.unwrap())), "{checked:?}");
    }
    let far = lab.pod("cluster-a/catalog-1").unwrap().ip.unwrap();
    let other_node = ask(&lab, &frontend, &[format!("http://{far}:8080"), format!("tcp://{far}:8080")], 100);
    assert!(other_node.iter().all(|checked| checked.error.is_none()), "{other_node:?}");

    // The bridge cluster, and UDP there.
    let (ledger, beacon) = (lab.pod("ledger-0").unwrap(), lab.pod("beacon-0").unwrap());
    let udp = ask(&lab, &ledger, &[format!("udp://{}:5300", beacon.ip.unwrap())], 100);
    assert_eq!((udp[0].error.as_ref(), udp[0].answer.pod.as_str()), (None, "beacon-0"));

    // Without the mesh no pod of the other cluster is reachable, and the attempt is seen on the WAN: the counter bites.
    lab.wan.reset_counters().unwrap();
    let ledger_ip = ledger.ip.unwrap();
    assert!(ask(&lab, &frontend, &[format!("http://{ledger_ip}:8080")], 100)[0].error.is_some());
    let counters = lab.wan.counters().unwrap();
    assert!(counters.clear > 0, "{counters:?}");
    let seen = lab.wan.clear_seen().unwrap();
    assert!(seen.iter().any(|line| line.contains(&ledger_ip.to_string())), "{seen:?}");

    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}

#[test]
fn a_dead_process_leaves_the_slices_at_once_and_comes_back() {
    let Some(lab) = shop("dead") else { return };
    let name = "cluster-a/shop/catalog-0";
    assert_eq!(slice_conditions(&lab, "catalog-0")["ready"], true);
    let killed = Instant::now();
    lab.kill_pod(name).unwrap();
    wait_until("the slice to say so", Duration::from_secs(1), || slice_conditions(&lab, "catalog-0")["ready"] == false)
        .unwrap();
    let took = killed.elapsed();
    assert!(took < Duration::from_millis(200), "{took:?}");
    let again = wait_for("the restart", Duration::from_secs(10), || {
        Ok(lab.pod(name).ok().filter(|pod| pod.is_ready && pod.restarts == 1))
    });
    println!("out of the slice after {took:?}, ready again after {:?}", killed.elapsed());
    assert_eq!(again.unwrap().ip, lab.pod(name).unwrap().ip);

    let gone = lab.pod("cluster-a/catalog-1").unwrap();
    lab.delete_pod(&gone).unwrap();
    assert!(lab.pod("cluster-a/catalog-1").is_err());
    assert!(!gone.cgroup.exists());
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}

#[test]
fn the_wan_cuts_restores_and_tells_packets_apart() {
    let Some(lab) = shop("wan") else { return };
    let (a1, b1) = (lab.node("a1").unwrap().plan.ip, lab.node("b1").unwrap().plan.ip);
    let ping = || lab.run_in(&lab.node("a1").unwrap().place, "ping", &["-c1", "-W1", &b1.to_string()]).is_ok();
    assert!(ping());
    lab.wan.cut("cluster-b").unwrap();
    assert!(!ping());
    lab.wan.restore("cluster-b").unwrap();
    assert!(ping());
    lab.set_uplink("b1", false).unwrap();
    assert!(!ping());
    lab.set_uplink("b1", true).unwrap();
    wait_until("the uplink to carry again", Duration::from_secs(3), ping).unwrap();

    lab.wan.reset_counters().unwrap();
    let node = |ip, port| SocketAddrV4::new(ip, port);
    let inner = Packet::ping(lab.pod("ledger-0").unwrap().ip.unwrap(), lab.pod("frontend-0").unwrap().ip.unwrap());
    lab.inject_from_node(
        "b1",
        &[
            Packet::vxlan(node(b1, 40_000), node(a1, 8473), 0x02_0001, &inner),
            Packet::udp(node(b1, 51_881), node(a1, 51_881), b"not really WireGuard"),
            Packet::udp(node(b1, 9), node(a1, 9), b"discard"),
        ],
    )
    .unwrap();
    let counted = wait_for("three packets to be counted", Duration::from_secs(2), || {
        let counters = lab.wan.counters()?;
        Ok((counters.clear == 1 && counters.wireguard == 1 && counters.others >= 1).then_some(counters))
    });
    println!("{:?}", counted.unwrap());
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}

#[test]
fn load_writes_every_request_down_and_power_loss_kills_pods_unreported() {
    let Some(lab) = shop("load") else { return };
    let client = lab.pod("frontend-0").unwrap();
    let address = (lab.pod("cluster-a/catalog-0").unwrap().ip.unwrap(), 8080).into();
    let plan = Plan { targets: vec![Target { name: "catalog".into(), address }], rate: 100, long: 2, large_every: 20 };
    let mut load = lab.start_load(&client, "catalog", &plan).unwrap();
    let mut records = Vec::new();
    wait_until("a hundred requests", Duration::from_secs(10), || {
        records.extend(load.read_new().unwrap());
        records.len() > 100
    })
    .unwrap();
    records.extend(load.stop().unwrap());
    let failures: Vec<_> = records.iter().filter(|record| record.is_failure()).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(records.iter().filter(|record| record.kind == Kind::Lived).count(), 2);
    assert!(records.iter().any(|record| record.bytes == 1 << 20));

    lab.halt_pods("cluster-b").unwrap();
    wait_until("the pods to be dead", Duration::from_secs(2), || {
        let pid = lab.pod("ledger-0").unwrap().pid.unwrap();
        !Path::new(&format!("/proc/{pid}/exe")).exists()
    })
    .unwrap();
    assert!(lab.pod("ledger-0").unwrap().is_ready, "nobody is left to report it");
    lab.resume_pods("cluster-b").unwrap();
    wait_for("the pods to be back", READY, || {
        Ok(lab.pod("ledger-0").ok().filter(|pod| pod.is_ready && pod.restarts == 1))
    })
    .unwrap();
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}

#[test]
fn a_lab_whose_owner_is_killed_is_taken_down_by_its_guard() {
    if let Some(why) = requirements::missing() {
        println!("skipped: {why}");
        return;
    }
    let lab = |verb: &[&str]| {
        let args = [verb, &["--name", "orphan"]].concat();
        Command::new(env!("CARGO_BIN_EXE_lab")).args(args).output().unwrap()
    };
    let up = lab(&["up", "--no-mesh"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let status: Value = serde_json::from_slice(&lab(&["status", "-o", "json"]).stdout).unwrap();
    assert_eq!(status["pods"].as_array().unwrap().len(), 9);
    let again = lab(&["up", "--no-mesh"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is running already"));

    let name: LabName = "orphan".parse().unwrap();
    let owner = owner(&name.state_dir()).unwrap();
    kill(Pid::from_raw(i32::try_from(owner).unwrap()), Signal::SIGKILL).unwrap();
    wait_until("the guard to be done", Duration::from_secs(10), || !name.state_dir().exists()).unwrap();
    assert_eq!(teardown::leftovers(&name), Vec::<String>::new());
}

#[test]
fn a_lab_that_is_dropped_leaves_nothing() {
    let Some(lab) = shop("dropped") else { return };
    let name = lab.name.clone();
    drop(lab);
    assert_eq!(teardown::leftovers(&name), Vec::<String>::new());
}
