//! Faults are injected one by one, and each must be found at its own step and named. What was injected, what was printed
//! and whether it was right is printed as a table.

use std::net::{Ipv4Addr, TcpListener};

use certs::{RootCa, ServerNames, Validity};
use federation::contract::{ClusterConfig, Layout, Resource, keys};
use mesh_proto::v1;
use mesh_store::mvcc::KeyRange;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};

use crate::harness::Server;

mod before;
mod stand_in;

use stand_in::{Plan, StandIn, hour, name};

/// What is injected, at which step it must be found, a part of what must be said, and the injection.
type Case = (&'static str, &'static str, &'static str, fn(&mut Plan));

fn state(resource: Resource, rest: &str) -> String {
    format!("{}{rest}", Layout::State.prefix(resource, &name()))
}

/// A port that nobody listens on: bound and given back.
fn closed_port() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A port that takes connections and says nothing, for the rest of the test.
fn silent_port() -> String {
    let listener = Box::leak(Box::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()));
    listener.local_addr().unwrap().to_string()
}

/// A port that speaks another protocol to the first who comes by, and whoever follows.
fn other_protocol() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Write as _;
            stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")).ok();
        }
    });
    address
}

const CASES: &[Case] = &[
    ("record cannot be read", "record", "is not a record of this version", |p| p.record = Some(b"{".to_vec())),
    ("record without endpoint", "record", "it holds no endpoint", |p| p.endpoints = Some(vec![])),
    ("trust bundle is damaged", "record", "its trust bundle cannot be used", |p| p.bundle_pem = "junk".into()),
    ("name that does not resolve", "resolve", "cannot be resolved", |p| {
        p.endpoints = Some(vec!["no-such-host.invalid:2379".into()]);
    }),
    ("closed port", "connect", "does not take connections", |p| p.endpoints = Some(vec![closed_port()])),
    ("port of a program that says nothing", "tls", "began no TLS within 3 s", |p| {
        p.endpoints = Some(vec![silent_port()]);
    }),
    ("port of another protocol", "tls", "is not accepted as west.mesh.isthmus.io", |p| {
        p.endpoints = Some(vec![other_protocol()]);
    }),
    ("another cluster's server", "tls", "is not signed by the CA that is trusted for it", |p| {
        let other = RootCa::generate(&name()).unwrap();
        p.leaf = other.issue_server(&ServerNames::default(), hour()).unwrap();
    }),
    ("foreign CA in the record", "tls", "is not signed by the CA that is trusted for it", |p| {
        p.bundle_pem = RootCa::generate(&name()).unwrap().bundle().pem();
    }),
    ("expired server certificate", "tls", "is not valid at this time", |p| {
        let hours = |n: i64| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(n);
        let past = Validity { not_before: hours(2), not_after: hours(1) };
        p.leaf = p.ca.issue_server(&ServerNames::default(), past).unwrap();
    }),
    ("server certificate for another use", "tls", "is not accepted as west.mesh.isthmus.io", |p| {
        p.leaf = p.ca.issue_remote(hour()).unwrap();
    }),
    ("peer does not know this cluster's CA", "role", "does not know the CA of this client's certificate", |p| {
        p.knows_caller = false;
    }),
    ("certificate without a role there", "role", "has not the role of a remote cluster there", |p| p.readable.clear()),
    ("no heartbeat", "heartbeat", "has none: its exporter does not run", |p| p.remove(keys::HEARTBEAT)),
    ("heartbeat stands still", "heartbeat", "s behind this clock", |p| p.put(keys::HEARTBEAT, "2026-02-25T06:13:20Z")),
    ("clock of the peer is ahead", "heartbeat", "s ahead of this clock", |p| {
        p.put(keys::HEARTBEAT, "2086-02-25T06:13:20Z");
    }),
    ("no cluster-config", "config", "has no cilium/cluster-config/west", |p| p.remove(&keys::cluster_config(&name()))),
    ("malformed cluster-config", "config", "a value that cannot be read", |p| {
        p.put(&keys::cluster_config(&name()), "{");
    }),
    ("cluster-config of another id", "config", "own-cluster-id: it may say 2", |p| {
        let config = ClusterConfig::own(ClusterId::new(9).unwrap(), IdentityLayout::Clusters255);
        p.facts.insert(keys::cluster_config(&name()), config.encode());
    }),
    ("peer has another id in the record", "config", "own-cluster-id: it may say 7", |p| p.id = 7),
    ("canary missing", "canaries", "those of services are missing", |p| {
        p.remove(&Layout::State.canary(Resource::Services, &name()));
    }),
    ("canaries may not be read", "canaries", "may not be read by this cluster's certificate", |p| {
        p.readable.retain(|range| *range != KeyRange::prefix(keys::canaries(&name())));
    }),
    ("malformed node", "nodes", "1 of 1 keys are left out, the first because cluster west may not say", |p| {
        p.put(&state(Resource::Nodes, "w1"), "{");
    }),
    ("address outside of its prefixes", "ip", "pod-address", |p| {
        p.put(&state(Resource::Ip, "10.1.0.9"), "{\"IP\":\"10.1.0.9\",\"HostIP\":\"192.0.2.1\",\"ID\":131500}");
    }),
    ("number outside of its range", "identities", "identity-range", |p| {
        p.put(&state(Resource::Identities, "70000"), "k8s:app=cart;k8s:io.cilium.k8s.policy.cluster=west;");
    }),
    ("malformed service", "services", "a value that cannot be read", |p| {
        p.put(&state(Resource::Services, "shop/cart"), "[]");
    }),
    ("facts may not be read", "identities", "may not be read by this cluster's certificate", |p| {
        p.readable.retain(|range| *range != KeyRange::prefix(keys::STATE));
    }),
];

async fn put(server: &Server, key: &str, value: Vec<u8>) {
    server.etcd(&server.admin_leaf()).await.put(key, value, None).await.expect("an administrator may write");
}

async fn walk(server: &Server, peer: &str) -> Vec<v1::WalkStep> {
    let request = v1::TroubleshootRequest { peer_name: peer.to_owned() };
    let mut walks = server.admin().await.troubleshoot(request).await.expect("a walk").into_inner().walks;
    assert_eq!(walks.len(), 1, "{walks:?}");
    walks.remove(0).steps
}

/// What failed of the way itself; the session and the agents' paths follow from that, later.
fn faults(steps: &[v1::WalkStep]) -> Vec<&v1::WalkStep> {
    let is_of_the_way = |step: &&v1::WalkStep| !["session", "paths"].contains(&step.step.as_str());
    steps.iter().filter(|step| step.result() == v1::WalkResult::Fail).filter(is_of_the_way).collect()
}

/// Cut to the width of a table.
fn shown(text: &str) -> String {
    text.chars().take(110).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_on_the_way_to_a_peer_is_found_at_its_step_and_named() {
    let east = Server::start("east", 1).await;
    east.ready().await;
    let key = keys::peer(&name());
    let own = ClusterName::new("east").unwrap();

    let well = StandIn::start(Plan::well(), &own, east.bundle()).await;
    put(&east, &key, well.record.clone()).await;
    let steps = walk(&east, stand_in::NAME).await;
    assert!(faults(&steps).is_empty(), "{steps:?}");
    let passed = steps.iter().filter(|step| step.result() == v1::WalkResult::Pass).count();
    assert!(passed >= 13, "record, certificate, seven steps and four resources: {steps:?}");
    drop(well);

    println!("{:40} {:11} {:4} output", "fault", "step", "");
    let mut wrong = Vec::new();
    for (fault, step, says, inject) in CASES {
        let mut plan = Plan::well();
        inject(&mut plan);
        let peer = StandIn::start(plan, &own, east.bundle()).await;
        put(&east, &key, peer.record.clone()).await;
        let steps = walk(&east, stand_in::NAME).await;
        let found = faults(&steps);
        let is_right = found.first().is_some_and(|first| first.step == *step && first.text.contains(says));
        let output = found.first().map_or("nothing".to_owned(), |first| format!("{}: {}", first.step, first.text));
        println!("{fault:40} {step:11} {:4} {}", if is_right { "pass" } else { "FAIL" }, shown(&output));
        if !is_right {
            wrong.push(format!("{fault}: {output}"));
        }
        // Nothing that lies beyond a stop counts as passed.
        if let Some(stop) = steps.iter().position(|s| s.step == *step && !s.endpoint.is_empty())
            && federation::session::walk::STEPS.contains(step)
        {
            let endpoint = &steps[stop].endpoint;
            let beyond = steps[stop + 1..].iter().filter(|step| step.endpoint == *endpoint);
            assert!(beyond.clone().all(|step| step.result() == v1::WalkResult::NotReached), "{fault}: {steps:?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(CASES.len() >= 20);

    let request = v1::TroubleshootRequest { peer_name: "nowhere".into() };
    let unknown = east.admin().await.troubleshoot(request).await.unwrap_err();
    assert!(unknown.message().contains("east has not joined a cluster \"nowhere\""), "{unknown}");
    east.app.stop().await;
}
