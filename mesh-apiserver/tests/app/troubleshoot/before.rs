//! The same for `preflight`: what another cluster says of itself, each time with one fault, before anything is joined.

use certs::{RootCa, ServerNames, Validity};
use federation::{Declaration, PeerRecord};
use mesh_proto::v1;
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};

use super::stand_in::{Plan, StandIn, hour, name};
use super::{closed_port, shown};
use crate::harness::Server;

/// What is injected, which check must find it, a part of what must be said, and the injection.
type Case = (&'static str, &'static str, &'static str, fn(&mut Plan), fn(&mut Declaration));

fn days(n: i64) -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * n)
}

fn with_leaf(plan: &mut Plan, from: i64, until: i64) {
    let validity = Validity { not_before: days(from), not_after: days(until) };
    plan.leaf = plan.ca.issue_server(&ServerNames::default(), validity).unwrap();
}

const CASES: &[Case] = &[
    ("id of another cluster", "id", "both have cluster id 1", |_| {}, |d| d.id = ClusterId::new(1).unwrap()),
    ("name of another cluster", "name", "east", |_| {}, |d| d.name = ClusterName::new("east").unwrap()),
    (
        "pod prefixes overlap",
        "prefixes",
        "10.1.0.0/16",
        |_| {},
        |d| d.pod_prefixes = vec!["10.1.0.0/16".parse().unwrap()],
    ),
    ("no node prefix", "prefixes", "declares no node prefix", |_| {}, |d| d.node_prefixes.clear()),
    (
        "other encryption",
        "encryption",
        "set --encryption to the same in both",
        |_| {},
        |d| d.encryption = Encryption::None,
    ),
    ("other number of clusters", "mode", "at most 255 clusters", |_| {}, |d| d.layout = IdentityLayout::Clusters511),
    ("damaged trust bundle", "ca", "cannot be read", |_| {}, |d| d.trust_bundle_pem = "junk".into()),
    ("no endpoint", "endpoints", "does not say where its etcd API is reached", |_| {}, |d| d.etcd_endpoints.clear()),
    ("closed port", "reach", "does not take connections", |p| p.endpoints = Some(vec![closed_port()]), |_| {}),
    (
        "another cluster's server",
        "reach",
        "another server than the expected one answers",
        |p| {
            p.leaf = RootCa::generate(&name()).unwrap().issue_server(&ServerNames::default(), hour()).unwrap();
        },
        |_| {},
    ),
    ("expired server certificate", "certificate", "is not valid at this time", |p| with_leaf(p, -2, -1), |_| {}),
    (
        "certificate that was not renewed",
        "certificate",
        "should have been renewed by now",
        |p| with_leaf(p, -80, 3),
        |_| {},
    ),
];

async fn complaints(server: &Server, other: &Declaration) -> Vec<v1::Finding> {
    let request = v1::PreflightRequest { other: Some(other.into()) };
    let found = server.admin().await.preflight(request).await.expect("findings").into_inner().findings;
    // Nobody runs an agent here, which is a warning of its own.
    found.into_iter().filter(|f| f.severity() != v1::Severity::Pass && f.check != "agents").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_cluster_that_is_to_be_joined_is_found_and_named() {
    let east = Server::start("east", 1).await;
    east.ready().await;
    let own = ClusterName::new("east").unwrap();
    let declared = |stand_in: &StandIn| PeerRecord::decode("west", &stand_in.record).unwrap().declaration;

    let well = StandIn::start(Plan::lasting(), &own, east.bundle()).await;
    let found = complaints(&east, &declared(&well)).await;
    assert!(found.is_empty(), "{found:?}");

    println!("{:36} {:12} {:4} output", "fault", "check", "");
    let mut wrong = Vec::new();
    for (fault, check, says, inject, misdeclare) in CASES {
        let mut plan = Plan::lasting();
        inject(&mut plan);
        let peer = StandIn::start(plan, &own, east.bundle()).await;
        let mut declaration = declared(&peer);
        misdeclare(&mut declaration);
        let found = complaints(&east, &declaration).await;
        let named = found.iter().find(|finding| finding.check == *check && finding.text.contains(says));
        let output = named.or(found.first()).map_or("nothing".to_owned(), |f| format!("{}: {}", f.check, f.text));
        println!("{fault:36} {check:12} {:4} {}", if named.is_some() { "pass" } else { "FAIL" }, shown(&output));
        if named.is_none() {
            wrong.push(format!("{fault}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    east.app.stop().await;
}
