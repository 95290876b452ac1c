//! The one path that everything stands on: a pod's request, answered in the other cluster through the tunnel.

use std::time::Duration;

use agent_ebpf::common::verdict::{direction, reason};
use serde_json::Value;
use topology_tests::components::Encryption;
use topology_tests::scenario::{Scenario, Setup};

const SOON: Duration = Duration::from_secs(5);

fn joined(name: &'static str, encryption: Encryption) -> Option<Scenario> {
    let mut setup = Setup::shop(name).unwrap();
    setup.encryption = encryption;
    let scenario = setup.start().unwrap()?;
    scenario.lab.wan.reset_counters().unwrap();
    scenario.connect().unwrap();
    Some(scenario)
}

/// The number of a pod's labels, as the control plane of its cluster allocated it.
fn identity_of(s: &Scenario, cluster: &str, pod: &str) -> u32 {
    let text = s.meshctl(&["--context", cluster, "get", "endpoints", "-o", "json"]).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let rows = all.as_array().cloned().unwrap_or_else(|| all["endpoints"].as_array().cloned().unwrap_or_default());
    let row = rows.iter().find(|row| row["pod"] == pod).unwrap_or_else(|| panic!("{pod} is not among {text}"));
    u32::try_from(row["identity"].as_u64().unwrap()).unwrap()
}

#[test]
fn a_backend_sees_the_client_pods_own_address_and_identity_with_both_cnis() {
    let Some(s) = joined("peer", Encryption::Wireguard) else { return };
    // ptp pod in cluster-a asks a bridge pod of cluster-b, and the other way round, by address and by cluster IP.
    let (a, b) = (s.lab.pod("frontend-0").unwrap(), s.lab.pod("ledger-0").unwrap());
    let by_service = s.service("http", "cluster-b", "books", "ledger", 80).unwrap();
    let answer = s.ask_until_answered(&a, &by_service, SOON).unwrap().answer;
    assert_eq!(
        (answer.cluster.as_str(), answer.peer.split(':').next().unwrap()),
        ("cluster-b", &*a.ip.unwrap().to_string())
    );
    let frontend = format!("http://{}:8080", a.ip.unwrap());
    let answer = s.ask_until_answered(&b, &frontend, SOON).unwrap().answer;
    assert_eq!(
        (answer.pod.as_str(), answer.peer.split(':').next().unwrap()),
        ("frontend-0", &*b.ip.unwrap().to_string())
    );

    let identity = identity_of(&s, "cluster-a", "frontend-0");
    let ingress: Vec<u32> = ["b1", "b2"]
        .iter()
        .flat_map(|node| s.counters(node).unwrap())
        .filter(|(key, _)| key.direction == direction::FROM_MESH && key.reason == reason::DELIVERED)
        .map(|(key, _)| key.identity)
        .collect();
    assert!(!ingress.is_empty() && ingress.iter().all(|counted| *counted == identity), "{ingress:?}, not {identity}");

    let wan = s.lab.wan.counters().unwrap();
    assert_eq!((wan.clear, wan.wireguard > 0), (0, true), "{wan:?}: {:?}", s.lab.wan.clear_seen());
    s.end().unwrap();
}

#[test]
fn every_protocol_of_a_global_service_is_answered_from_the_other_cluster() {
    let Some(s) = joined("protocols", Encryption::Wireguard) else { return };
    let client = s.lab.pod("frontend-0").unwrap();
    for (protocol, namespace, service, port) in [("http", "books", "ledger", 80), ("udp", "shop", "beacon", 53)] {
        let question = s.service(protocol, "cluster-b", namespace, service, port).unwrap();
        let checked = s.ask_until_answered(&client, &question, SOON).unwrap();
        assert_eq!(checked.answer.cluster, "cluster-b", "{question}");
    }
    let ledger = s.lab.pod("ledger-0").unwrap().ip.unwrap();
    let grpc = s.ask_until_answered(&client, &format!("grpc://{ledger}:50051"), SOON).unwrap();
    assert_eq!(grpc.answer.pod, "ledger-0");
    let large = s.ask(&client, &format!("http://{ledger}:8080"), 1 << 20).unwrap();
    assert_eq!(large.error, None, "1 MiB both ways");
    s.end().unwrap();
}

#[test]
fn without_encryption_the_clear_packet_counter_bites() {
    let Some(s) = joined("clear", Encryption::None) else { return };
    let client = s.lab.pod("frontend-0").unwrap();
    let question = s.service("http", "cluster-b", "books", "ledger", 80).unwrap();
    s.ask_until_answered(&client, &question, SOON).unwrap();
    let wan = s.lab.wan.counters().unwrap();
    assert!(wan.clear > 0 && wan.wireguard == 0, "{wan:?}");
    s.end().unwrap();
}

#[test]
fn disconnect_ends_the_path_and_leaks_nothing() {
    let Some(s) = joined("parting", Encryption::Wireguard) else { return };
    let client = s.lab.pod("frontend-0").unwrap();
    let ledger = format!("http://{}:8080", s.lab.pod("ledger-0").unwrap().ip.unwrap());
    s.ask_until_answered(&client, &ledger, SOON).unwrap();
    assert_eq!(s.lab.wan.counters().unwrap().clear, 0, "{:?}", s.lab.wan.clear_seen());
    s.meshctl(&["disconnect", "cluster-a", "cluster-b"]).unwrap();
    topology_tests::deadline::wait_until("the path to be gone", SOON, || {
        s.ask(&client, &ledger, 100).unwrap().error.is_some()
    })
    .unwrap();
    // What is sent there now, and what open connections still had to say, stays inside.
    s.ask(&client, &ledger, 100).unwrap().error.expect("nobody answers");
    assert_eq!(s.lab.wan.counters().unwrap().clear, 0, "{:?}", s.lab.wan.clear_seen());
    // Connecting again brings it back.
    s.connect().unwrap();
    s.ask_until_answered(&client, &ledger, SOON).unwrap();
    s.end().unwrap();
}
