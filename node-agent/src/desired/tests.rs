use mesh_types::view::{Encryption, Ip};
use mesh_types::{BackendState, ClusterId, Preference, SecurityIdentity};

use super::*;

pub(crate) fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

pub(crate) fn cluster(text: &str, id: u32, local: bool, prefix: &str) -> Object {
    Object::Cluster(Cluster {
        name: name(text),
        id: ClusterId::new(id).unwrap(),
        is_local: local,
        pod_prefixes: vec![prefix.parse().unwrap()],
        encryption: Encryption::Wireguard,
    })
}

pub(crate) fn ip(of: &str, address: &str, host: &str, identity: u32) -> Object {
    Object::Ip(Ip {
        cluster: name(of),
        prefix: IpNet::from(address.parse::<IpAddr>().unwrap()),
        identity: SecurityIdentity(identity),
        host: Some(host.parse().unwrap()),
        namespace: None,
        pod: None,
    })
}

fn backend(of: &str, address: &str) -> Object {
    Object::Backend(ServiceBackend {
        cluster: name(of),
        service: ServiceName::new("shop", "cart"),
        address: address.parse().unwrap(),
        ports: Vec::new(),
        state: BackendState::Active,
        node: None,
        zone: None,
        weight: 1,
    })
}

fn upserts(objects: &[Object]) -> Delta {
    Delta { upserts: objects.to_vec(), ..Delta::default() }
}

fn deletes(objects: &[Object]) -> Delta {
    Delta { deletes: objects.iter().map(Object::key).collect(), ..Delta::default() }
}

#[test]
fn an_address_touches_the_services_that_have_it_as_backend() {
    let mut view = View::default();
    view.apply(upserts(&[backend("east", "10.2.0.5")]));
    let changes = view.apply(upserts(&[ip("east", "10.2.0.5", "172.30.2.11", 7)]));
    assert_eq!(changes.services, BTreeSet::from([ServiceName::new("shop", "cart")]));
    assert_eq!(changes.prefixes.len(), 1);
    assert_eq!(view.services_behind("172.30.2.11".parse().unwrap()), changes.services);
}

#[test]
fn an_equal_object_changes_nothing() {
    let mut view = View::default();
    let objects = [cluster("east", 2, false, "10.2.0.0/16"), ip("east", "10.2.0.5", "172.30.2.11", 7)];
    assert!(!view.apply(upserts(&objects)).is_empty());
    assert!(view.apply(upserts(&objects)).is_empty());
}

#[test]
fn what_came_and_went_leaves_no_trace() {
    let mut view = View::default();
    let objects = [
        cluster("east", 2, false, "10.2.0.0/16"),
        ip("east", "10.2.0.5", "172.30.2.11", 7),
        backend("east", "10.2.0.5"),
        Object::Service(Service {
            cluster: name("east"),
            name: ServiceName::new("shop", "cart"),
            frontends: Vec::new(),
            global: true,
            shared: true,
            prefers: Preference::default(),
        }),
    ];
    view.apply(upserts(&objects));
    let changes = view.apply(deletes(&objects));
    assert_eq!(changes.services.len(), 1);
    assert!(view.clusters.is_empty() && view.all_ips().next().is_none() && view.services.is_empty());
    assert!(view.backend_services.is_empty() && view.hosted.is_empty());
}

#[test]
fn a_moved_address_leaves_its_old_host() {
    let mut view = View::default();
    view.apply(upserts(&[ip("east", "10.2.0.5", "172.30.2.11", 7)]));
    view.apply(upserts(&[ip("east", "10.2.0.5", "172.30.2.12", 7)]));
    assert_eq!(view.hosted_by("172.30.2.11".parse().unwrap()).count(), 0);
    assert_eq!(view.hosted_by("172.30.2.12".parse().unwrap()).count(), 1);
}

#[test]
fn a_changed_cluster_touches_all_that_hangs_on_it() {
    let mut view = View::default();
    view.apply(upserts(&[
        cluster("east", 2, false, "10.2.0.0/16"),
        ip("east", "10.2.0.5", "172.30.2.11", 7),
        backend("east", "10.2.0.5"),
        ip("west", "10.1.0.5", "172.30.1.11", 7),
    ]));
    let changes = view.apply(upserts(&[cluster("east", 3, false, "10.3.0.0/16")]));
    let want: BTreeSet<IpNet> = ["10.2.0.0/16", "10.3.0.0/16", "10.2.0.5/32"].map(|p| p.parse().unwrap()).into();
    assert_eq!(changes.prefixes, want);
    assert_eq!(changes.services.len(), 1);
    assert!(changes.topology);
}
