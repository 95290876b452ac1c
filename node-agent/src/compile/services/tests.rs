use mesh_types::Frontend;
use mesh_types::view::Object;
use std::net::Ipv4Addr;

use mesh_types::{Affinity, Preference};

use super::*;
use crate::compile::fixture::{Mesh, addr, cart};

fn plan_of(mesh: &Mesh) -> ServicePlan {
    plan(mesh.facts(), &cart(), mesh.view.service(&cart()).unwrap())
}

fn addresses(mesh: &Mesh) -> Vec<String> {
    let plan = plan_of(mesh);
    plan.frontends[0].backends.iter().map(|b| IpAddr::from(b.backend.addr).to_string()).collect()
}

#[test]
fn a_global_service_has_the_backends_of_both_clusters_in_order_of_address() {
    let mut mesh = Mesh::connected();
    mesh.global_service("b", "10.102.0.9");
    mesh.global_service("a", "10.101.0.9");
    mesh.backend("b", "10.2.1.5");
    mesh.backend("a", "10.1.2.5");
    let plan = plan_of(&mesh);
    assert_eq!(plan.frontends.len(), 1, "the own cluster's frontend only");
    let frontend = &plan.frontends[0];
    assert_eq!(IpAddr::from(frontend.key.addr), addr("10.101.0.9"));
    assert_eq!((frontend.key.port_be, frontend.key.proto), (80_u16.to_be(), 6));
    let [own, remote] = frontend.backends[..] else { panic!("{frontend:?}") };
    assert_eq!((own.backend.addr, own.backend.cluster), (Ipv4Addr::new(10, 1, 2, 5).into(), 1));
    assert_eq!(remote.backend.port_be, 8080_u16.to_be(), "the backend's own port, found by name");
    assert_eq!(remote.backend.flags & Backend::FLAG_REMOTE, Backend::FLAG_REMOTE);
}

#[test]
fn a_service_that_only_a_peer_has_is_reached_by_the_peers_address() {
    let mut mesh = Mesh::connected();
    mesh.global_service("b", "10.102.0.9");
    mesh.backend("b", "10.2.1.5");
    let plan = plan_of(&mesh);
    assert_eq!(IpAddr::from(plan.frontends[0].key.addr), addr("10.102.0.9"));
    assert!(plan.frontends[0].claim.is_remote);
    assert_eq!(plan.frontends[0].backends.len(), 1);
}

#[test]
fn an_own_service_that_is_not_global_keeps_its_address_and_may_be_left_to_others() {
    let mut mesh = Mesh::connected();
    mesh.global_service("b", "10.102.0.9");
    mesh.backend("a", "10.1.2.5");
    let own = Mesh::service("a", "10.101.0.9", Affinity::None);
    for (global, leaves, is_left) in [(false, true, true), (false, false, false), (true, true, false)] {
        mesh.put(Object::Service(Service { global, ..own.clone() }));
        let facts = Facts { leaves_own_services: leaves, ..mesh.facts() };
        let plan = plan(facts, &cart(), mesh.view.service(&cart()).unwrap());
        let frontend = &plan.frontends[0];
        assert_eq!((IpAddr::from(frontend.key.addr), frontend.claim.is_remote), (addr("10.101.0.9"), false));
        assert_eq!((frontend.is_left, frontend.backends.is_empty()), (is_left, is_left), "{global} {leaves}");
    }
}

#[test]
fn what_is_not_shared_is_not_used() {
    let mut mesh = Mesh::connected();
    let service = Mesh::service("b", "10.102.0.9", Affinity::None);
    mesh.put(Object::Service(Service { shared: false, ..service }));
    mesh.backend("b", "10.2.1.5");
    assert!(plan_of(&mesh).frontends.is_empty());
    mesh.global_service("a", "10.101.0.9");
    assert!(addresses(&mesh).is_empty());
}

#[test]
fn backends_behind_a_dead_path_leave_but_never_the_last_ones() {
    let mut mesh = Mesh::connected();
    mesh.global_service("b", "10.102.0.9");
    mesh.backend("b", "10.2.1.5");
    mesh.backend("b", "10.2.2.5");
    mesh.paths.insert(addr("172.30.2.11"), false);
    assert_eq!(addresses(&mesh), ["10.2.2.5"]);
    mesh.paths.insert(addr("172.30.2.12"), false);
    assert_eq!(addresses(&mesh), ["10.2.1.5", "10.2.2.5"]);
}

#[test]
fn a_backend_is_used_once_its_address_is_known() {
    let mut mesh = Mesh::connected();
    mesh.global_service("a", "10.101.0.9");
    mesh.global_service("b", "10.102.0.9");
    mesh.backend("a", "10.1.1.5");
    mesh.put(Object::Backend(Mesh::backend_object("b", "10.2.1.5")));
    assert_eq!(addresses(&mesh), ["10.1.1.5"]);
    mesh.backend("b", "10.2.1.5");
    assert_eq!(addresses(&mesh), ["10.1.1.5", "10.2.1.5"]);
}

#[test]
fn affinity_prefers_and_falls_back() {
    let mut mesh = Mesh::connected();
    mesh.global_service("b", "10.102.0.9");
    mesh.backend("a", "10.1.1.5");
    mesh.backend("b", "10.2.1.5");
    for (affinity, want) in [(Affinity::Local, "10.1.1.5"), (Affinity::Remote, "10.2.1.5")] {
        mesh.put(Object::Service(Mesh::service("a", "10.101.0.9", affinity)));
        assert_eq!(addresses(&mesh), [want], "{affinity}");
    }
    mesh.paths.insert(addr("172.30.2.11"), false);
    assert_eq!(addresses(&mesh), ["10.1.1.5"], "the remote ones are cut off");
}

/// A Service that all of three clusters share, as cluster `a` prefers it.
fn preferring(prefers: Preference) -> Mesh {
    let mut mesh = Mesh::three_connected();
    for (cluster, frontend) in [("b", "10.102.0.9"), ("c", "10.103.0.9")] {
        mesh.global_service(cluster, frontend);
    }
    let service = Mesh::service("a", "10.101.0.9", Affinity::None);
    mesh.put(Object::Service(Service { prefers, ..service }));
    mesh
}

#[test]
fn failover_goes_from_cluster_to_cluster_in_order() {
    let order = ["b", "c"].map(|cluster| ClusterName::new(cluster).unwrap()).to_vec();
    let mut mesh = preferring(Preference { failover: order, ..Preference::default() });
    mesh.backend("c", "10.3.1.5");
    assert_eq!(addresses(&mesh), ["10.3.1.5"]);
    mesh.backend("b", "10.2.1.5");
    assert_eq!(addresses(&mesh), ["10.2.1.5"]);
    mesh.backend("a", "10.1.1.5");
    assert_eq!(addresses(&mesh), ["10.1.1.5"]);
    mesh.put(Object::Backend(ServiceBackend {
        state: BackendState::NotReady,
        ..Mesh::backend_object("a", "10.1.1.5")
    }));
    mesh.paths.insert(addr("172.30.2.11"), false);
    assert_eq!(addresses(&mesh), ["10.3.1.5"], "b is cut off here");
}

#[test]
fn weights_of_clusters_become_weights_of_backends() {
    let weights = [("a", 80), ("b", 20)].map(|(cluster, weight)| (ClusterName::new(cluster).unwrap(), weight));
    let mut mesh = preferring(Preference { weights: weights.into(), ..Preference::default() });
    mesh.backend("a", "10.1.1.5");
    for address in ["10.2.1.5", "10.2.1.6", "10.3.1.5"] {
        mesh.backend(&format!("{}", if address.starts_with("10.2") { 'b' } else { 'c' }), address);
    }
    let plan = plan_of(&mesh);
    let weights: Vec<u16> = plan.frontends[0].backends.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [10_000, 1_250, 1_250], "80 to 10 and 10; c is not named");
}

#[test]
fn what_the_datapath_cannot_carry_is_refused_by_name_and_the_rest_goes_on() {
    let mut mesh = Mesh::connected();
    let mut service = Mesh::service("a", "10.101.0.9", Affinity::None);
    service.frontends[0].ports.push(NamedPort { name: "s".into(), protocol: Protocol::Sctp, port: 9 });
    service.frontends.push(Frontend { address: addr("fd00::1"), ports: Vec::new() });
    mesh.put(Object::Service(service.clone()));
    let plan = plan_of(&mesh);
    assert_eq!(plan.frontends.len(), 1);
    assert_eq!(plan.refusals.iter().map(|r| r.reason).collect::<Vec<_>>(), ["sctp", "ipv6"]);
    mesh.put(Object::Service(Service { frontends: Vec::new(), ..service }));
    assert!(plan_of(&mesh).refusals.is_empty(), "a headless service has nothing to balance, which is no fault");
}

#[test]
fn a_port_that_no_backend_serves_has_none() {
    let mut mesh = Mesh::connected();
    mesh.global_service("a", "10.101.0.9");
    let mut backend = Mesh::backend_object("a", "10.1.1.5");
    backend.ports[0].name = "metrics".into();
    mesh.put(Object::Backend(backend));
    assert!(addresses(&mesh).is_empty());
    assert_eq!(plan_of(&mesh).frontends.len(), 1, "and refuses connections rather than let them pass");
}
