use std::time::Duration;

use certs::RootCa;
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};
use uuid::Uuid;

use super::*;

fn cluster(name: &str, id: u8) -> Declaration {
    let cluster = ClusterName::new(name).unwrap();
    let prefix = |text: String| vec![text.parse().unwrap()];
    Declaration {
        trust_bundle_pem: RootCa::generate(&cluster).unwrap().certificate_pem(),
        name: cluster,
        id: ClusterId::new(id.into()).unwrap(),
        uuid: Uuid::from_u128(id.into()),
        etcd_endpoints: vec![format!("192.0.{id}.1:2379")],
        mesh_endpoints: vec![format!("192.0.{id}.1:2382")],
        pod_prefixes: prefix(format!("10.{id}.0.0/16")),
        node_prefixes: prefix(format!("192.0.{id}.0/24")),
        service_prefixes: prefix(format!("10.10{id}.0.0/16")),
        layout: IdentityLayout::Clusters255,
        encryption: Encryption::Wireguard,
        version: "0.1.0".to_owned(),
    }
}

/// What is not a pass, as `check: text`.
fn complaints(own: &Declaration, other: &Declaration, peers: &[Declaration]) -> Vec<String> {
    let findings = compare(own, other, peers, Timestamp::now());
    let complaints = findings.into_iter().filter(|finding| finding.severity != Severity::Pass);
    complaints.map(|finding| format!("{} {}: {}", finding.severity, finding.check, finding.text)).collect()
}

#[test]
fn two_clusters_that_fit_pass_every_check() {
    let (east, west) = (cluster("east", 1), cluster("west", 2));
    let findings = compare(&east, &west, &[cluster("north", 3)], Timestamp::now());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Pass), "{findings:?}");
    let checks: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["name", "id", "prefixes", "encryption", "mode", "version", "ca", "ca"]);
}

#[test]
fn each_fault_is_found_and_named_with_its_remedy() {
    let east = cluster("east", 1);
    let west = || cluster("west", 2);
    let prefix = |text: &str| vec![text.parse().unwrap()];
    let north = || [cluster("north", 3)];
    let table: Vec<(Declaration, &str)> = vec![
        (Declaration { uuid: east.uuid, ..west() }, "fail name: east and west are the same cluster"),
        (Declaration { name: east.name.clone(), ..west() }, "fail name: two clusters are named east"),
        (Declaration { name: north()[0].name.clone(), ..west() }, "fail name: two clusters are named north"),
        (
            Declaration { id: east.id, ..west() },
            "fail id: east and west both have cluster id 1: give one of them another",
        ),
        (Declaration { id: north()[0].id, ..west() }, "fail id: north and west both have cluster id 3"),
        (
            Declaration { pod_prefixes: prefix("10.1.9.0/24"), ..west() },
            "fail prefixes: pod prefix 10.1.0.0/16 of east",
        ),
        (
            Declaration { pod_prefixes: prefix("10.3.0.0/16"), ..west() },
            "fail prefixes: pod prefix 10.3.0.0/16 of north",
        ),
        (
            Declaration { node_prefixes: prefix("192.0.0.0/16"), ..west() },
            "fail prefixes: node prefix 192.0.1.0/24 of east",
        ),
        (Declaration { service_prefixes: prefix("10.101.0.0/17"), ..west() }, "service prefix 10.101.0.0/17 of west"),
        (
            Declaration { pod_prefixes: prefix("fd00::/48"), ..west() },
            "fail prefixes: pod prefix fd00::/48 of west is IPv6",
        ),
        (Declaration { pod_prefixes: vec![], ..west() }, "fail prefixes: west declares no pod prefix"),
        (Declaration { node_prefixes: vec![], ..west() }, "fail prefixes: west declares no node prefix"),
        (Declaration { encryption: Encryption::None, ..west() }, "set --encryption to the same in both"),
        (
            Declaration { layout: IdentityLayout::Clusters511, ..west() },
            "fail mode: east is set for at most 255 clusters",
        ),
        (
            Declaration { version: "0.2.0".to_owned(), ..west() },
            "warn version: east runs 0.1.0 and west runs 0.2.0: upgrade",
        ),
        (
            Declaration { trust_bundle_pem: "junk".to_owned(), ..west() },
            "fail ca: the trust bundle of west cannot be read",
        ),
        (Declaration { etcd_endpoints: vec![], ..west() }, "west does not say where its etcd API is reached"),
        (Declaration { mesh_endpoints: vec![], ..west() }, "west does not say where its mesh port is reached: start"),
    ];
    for (other, want) in table {
        let found = complaints(&east, &other, &north());
        assert!(found.iter().any(|complaint| complaint.contains(want)), "{want}: {found:?}");
    }
}

#[test]
fn several_faults_are_all_told() {
    let east = cluster("east", 1);
    let west = Declaration { id: east.id, encryption: Encryption::None, ..cluster("west", 2) };
    let found = complaints(&east, &west, &[]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_ca_that_ends_soon_or_has_ended_is_told() {
    let (east, west) = (cluster("east", 1), cluster("west", 2));
    let ends = TrustBundle::from_pem(&west.trust_bundle_pem).unwrap().expires_at();
    let of_west = |now: Timestamp| {
        let findings = compare(&east, &west, &[], now);
        findings.into_iter().rfind(|finding| finding.check == "ca").unwrap()
    };
    assert_eq!(of_west(ends - SOON - Duration::from_hours(1)).severity, Severity::Pass);
    assert_eq!(of_west(ends - SOON + Duration::from_hours(1)).severity, Severity::Warn);
    let ended = of_west(ends);
    assert!(ended.severity == Severity::Fail && ended.text.ends_with("which is past: give west a new CA"), "{ended:?}");
}
