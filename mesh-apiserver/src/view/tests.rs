use federation::{Loss, State};
use mesh_types::Affinity;
use mesh_types::view::Identity;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};

use super::*;
use crate::examples::{Cluster, mirrored, node, pod, service, slice};
use crate::objects::{Kind, Meta, ObjectKey};

pub(super) fn apply(view: &mut View, written: &[(Bytes, Option<Bytes>)]) -> Change {
    let (change, errors) = view.apply_values(written.iter().map(|(k, v)| (k, v.as_ref())));
    assert!(errors.is_empty(), "{errors:?}");
    change
}

fn mirror_record(peer: &str, clock: u64) -> Vec<(Bytes, Option<Bytes>)> {
    let record = federation::mirror::MirrorRecord { clock_unix_nanos: clock, ..Default::default() };
    vec![(format!("isthmus/v1/mirror/{peer}").into(), Some(record.encode().into()))]
}

/// A verdict on `peer`: live; with a loss withdrawn; without one stale, where some period is outlived.
pub(super) fn verdict(peer: &str, loss: Option<Loss>, outlived_seconds: u64) -> Vec<(Bytes, Option<Bytes>)> {
    let state = match (loss, outlived_seconds) {
        (Some(_), _) => State::Withdrawn,
        (None, 0) => State::Live,
        (None, _) => State::Stale,
    };
    let health = Health {
        state,
        since_unix_nanos: 5_000_000_000,
        reason: "told".to_owned(),
        loss,
        last_heartbeat_unix_nanos: 1_000_000_000,
        outlived_seconds,
        stale_seconds: 0,
    };
    vec![(format!("isthmus/v1/health/{peer}").into(), Some(health.encode().into()))]
}

/// The addresses that take new connections to `shop/cart` at the consumer.
pub(super) fn chosen(view: &View) -> Vec<String> {
    let rows = view.service_rows();
    let row = rows.first().expect("a Service of that name");
    row.selected.iter().map(|chosen| row.backends[chosen.index].address.to_string()).collect()
}

/// What, here's annotations, here's state, there's annotations, there's state, chosen here; no annotations: no Service.
type Case = (&'static str, Option<Value>, char, Option<Value>, char, &'static [&'static str]);

/// Cilium's chart "Global and Shared Services Reference" and the affinity rules, through every step: annotations of the
/// objects in both clusters, export, mirror, view, selection. `here` has 10.1.0.1, `there` has 10.2.0.1.
#[test]
fn services_are_chosen_by_ciliums_flow_chart() {
    const LOCAL: &[&str] = &["10.1.0.1"];
    const REMOTE: &[&str] = &["10.2.0.1"];
    const BOTH: &[&str] = &["10.1.0.1", "10.2.0.1"];
    const NONE: &[&str] = &[];
    let on = || json!({"service.cilium.io/global": "true"});
    let with = |extra: Value| {
        let mut all = on();
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Some(all)
    };
    let table: Vec<Case> = vec![
        ("both global", Some(on()), '+', Some(on()), '+', BOTH),
        (
            "own names",
            Some(json!({"mesh.isthmus.io/global": "true"})),
            '+',
            Some(json!({"mesh.isthmus.io/global": "true"})),
            '+',
            BOTH,
        ),
        (
            "Cilium's old alias",
            Some(json!({"io.cilium/global-service": "true"})),
            '+',
            Some(json!({"io.cilium/global-service": "true"})),
            '+',
            BOTH,
        ),
        ("only here global", Some(on()), '+', Some(json!({})), '+', LOCAL),
        ("only there global", Some(json!({})), '+', Some(on()), '+', LOCAL),
        ("neither", Some(json!({})), '+', Some(json!({})), '+', LOCAL),
        ("there not shared", Some(on()), '+', with(json!({"service.cilium.io/shared": "false"})), '+', LOCAL),
        ("there not shared, own name", Some(on()), '+', with(json!({"mesh.isthmus.io/shared": "false"})), '+', LOCAL),
        (
            "here not shared still consumes",
            with(json!({"service.cilium.io/shared": "false"})),
            '+',
            Some(on()),
            '+',
            BOTH,
        ),
        (
            "shared without global means nothing",
            Some(on()),
            '+',
            Some(json!({"service.cilium.io/shared": "true"})),
            '+',
            LOCAL,
        ),
        ("no Service here", None, '+', Some(on()), '+', REMOTE),
        ("no ready backend here", Some(on()), '-', Some(on()), '+', REMOTE),
        ("no ready backend there", Some(on()), '+', Some(on()), '-', LOCAL),
        ("affinity local", with(json!({"service.cilium.io/affinity": "local"})), '+', Some(on()), '+', LOCAL),
        ("affinity local, own name", with(json!({"mesh.isthmus.io/affinity": "local"})), '+', Some(on()), '+', LOCAL),
        (
            "affinity local, old alias",
            with(json!({"io.cilium/service-affinity": "local"})),
            '+',
            Some(on()),
            '+',
            LOCAL,
        ),
        (
            "affinity local, none left here",
            with(json!({"service.cilium.io/affinity": "local"})),
            '-',
            Some(on()),
            '+',
            REMOTE,
        ),
        (
            "affinity local, only ending here",
            with(json!({"service.cilium.io/affinity": "local"})),
            't',
            Some(on()),
            '+',
            REMOTE,
        ),
        ("affinity remote", with(json!({"service.cilium.io/affinity": "remote"})), '+', Some(on()), '+', REMOTE),
        (
            "affinity remote, none left there",
            with(json!({"service.cilium.io/affinity": "remote"})),
            '+',
            Some(on()),
            '-',
            LOCAL,
        ),
        ("affinity none", with(json!({"service.cilium.io/affinity": "none"})), '+', Some(on()), '+', BOTH),
        (
            "affinity is the consumer's",
            Some(on()),
            '+',
            with(json!({"service.cilium.io/affinity": "remote"})),
            '+',
            BOTH,
        ),
        (
            "own name wins over the alias",
            with(json!({"mesh.isthmus.io/affinity": "local", "io.cilium/service-affinity": "remote"})),
            '+',
            Some(on()),
            '+',
            LOCAL,
        ),
        (
            "unknown affinity keeps the Service local",
            with(json!({"service.cilium.io/affinity": "nearest"})),
            '+',
            Some(on()),
            '+',
            LOCAL,
        ),
        ("nothing ready anywhere", Some(on()), '-', Some(on()), '-', NONE),
    ];
    for (what, here_annotations, here_state, there_annotations, there_state, want) in table {
        let (mut here, mut there) = (Cluster::new("here", 1), Cluster::new("there", 2));
        if let Some(annotations) = &here_annotations {
            here.apply(service("10.101.0.1", annotations));
            here.apply(slice("cart-x", &[("10.1.0.1", here_state)]));
        }
        if let Some(annotations) = &there_annotations {
            there.apply(service("10.102.0.1", annotations));
            there.apply(slice("cart-x", &[("10.2.0.1", there_state)]));
        }
        let mut view = View::new(here.name.clone());
        apply(&mut view, &here.commit());
        apply(&mut view, &mirrored(&mut there));
        assert_eq!(chosen(&view), want, "{what}");
        let key = Key::Service { cluster: here.name.clone(), service: mesh_types::ServiceName::new("shop", "cart") };
        if what == "affinity local" {
            let Some(Object::Service(own)) = view.facts().get(&key) else { panic!("the own Service") };
            assert_eq!(own.prefers.affinity, Affinity::Local, "agents see the setting");
        }
    }
}

#[test]
fn a_setting_that_names_a_cluster_which_is_not_joined_is_said_of_the_service_and_passed_over() {
    let annotated = |more: Value| {
        let mut all = json!({"service.cilium.io/global": "true"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (mut here, mut there) = (Cluster::new("here", 1), Cluster::new("there", 2));
        here.apply(service("10.101.0.1", &all));
        there.apply(service("10.102.0.1", &json!({"service.cilium.io/global": "true"})));
        there.apply(slice("cart-x", &[("10.2.0.1", '+')]));
        let mut view = View::new(here.name.clone());
        apply(&mut view, &here.commit());
        apply(&mut view, &mirrored(&mut there));
        for (name, id, is_local) in [("here", 1, true), ("there", 2, false)] {
            let cluster = mesh_types::view::Cluster {
                name: ClusterName::new(name).unwrap(),
                id: mesh_types::ClusterId::new(id).unwrap(),
                is_local,
                pod_prefixes: Vec::new(),
                encryption: mesh_types::view::Encryption::Wireguard,
            };
            view.facts.insert(Key::Cluster(cluster.name.clone()), Object::Cluster(cluster));
        }
        view
    };
    let view = annotated(json!({"mesh.isthmus.io/failover": "elsewhere,there,nowhere"}));
    assert_eq!(chosen(&view), ["10.2.0.1"]);
    let error = view.service_rows().swap_remove(0).error.unwrap();
    assert!(
        error.starts_with(
            "annotation mesh.isthmus.io/failover names elsewhere, nowhere, which is not a cluster of this mesh"
        ),
        "{error}"
    );
    assert_eq!(view.service_errors().into_values().collect::<Vec<_>>(), [error]);
    let view = annotated(json!({"mesh.isthmus.io/weights": "there=1,gone=5"}));
    assert!(view.service_errors().into_values().all(|error| error.contains("mesh.isthmus.io/weights names gone,")));
    assert_eq!(chosen(&view), ["10.2.0.1"]);
    for known in [json!({"mesh.isthmus.io/failover": "here,there"}), json!({"service.cilium.io/affinity": "local"})] {
        assert!(annotated(known).service_errors().is_empty());
    }
}

/// `here` with one pod and a Service, `there` with two backends; both in the view.
pub(super) fn two_clusters() -> (Cluster, Cluster, View) {
    let (mut here, mut there) = (Cluster::new("here", 1), Cluster::new("there", 2));
    let global = json!({"service.cilium.io/global": "true"});
    here.apply(node("n1", "192.0.2.1", "10.1.0.0/24"));
    here.apply(pod("client", "10.1.0.9", "client"));
    here.apply(service("10.101.0.1", &global));
    there.apply(node("n1", "192.0.2.2", "10.2.0.0/24"));
    there.apply(pod("cart-1", "10.2.0.1", "cart"));
    there.apply(service("10.102.0.1", &global));
    there.apply(slice("cart-x", &[("10.2.0.1", '+'), ("10.2.0.2", '+')]));
    let mut view = View::new(here.name.clone());
    apply(&mut view, &here.commit());
    apply(&mut view, &mirrored(&mut there));
    (here, there, view)
}

#[test]
fn the_view_holds_both_clusters_in_the_order_in_which_they_may_be_written() {
    let (_, _, view) = two_clusters();
    let kinds: Vec<&str> = view
        .objects()
        .map(|o| match o {
            Object::Cluster(_) => "cluster",
            Object::Identity(_) => "identity",
            Object::Node(_) => "node",
            Object::Ip(_) => "ip",
            Object::Service(_) => "service",
            Object::Backend(_) => "backend",
        })
        .collect();
    let want = [
        "cluster", "cluster", "identity", "identity", "node", "node", "ip", "ip", "service", "service", "backend",
        "backend",
    ];
    assert_eq!(kinds, want);
    let identities: Vec<&Identity> =
        view.objects().filter_map(|o| if let Object::Identity(i) = o { Some(i) } else { None }).collect();
    assert_eq!(identities[0].number.0 >> 16, 1);
    assert_eq!(identities[1].labels.get("io.cilium.k8s.policy.cluster"), Some("there"));
}

#[test]
fn one_backend_that_goes_is_one_deletion() {
    let (_, mut there, mut view) = two_clusters();
    there.apply(slice("cart-x", &[("10.2.0.1", '+')]));
    let change = apply(&mut view, &mirrored(&mut there));
    assert!(change.upserts.is_empty());
    assert!(matches!(&change.deletes[..], [Key::Backend { address, .. }] if address.to_string() == "10.2.0.2"));
    there.delete(&ObjectKey::new(
        Kind::Service,
        &Meta { name: "cart".into(), namespace: "shop".into(), ..Meta::default() },
    ));
    let change = apply(&mut view, &mirrored(&mut there));
    assert!(matches!(&change.deletes[..], [Key::Backend { .. }, Key::Service { .. }]), "backends before their Service");
}

#[test]
fn a_withdrawn_clusters_backends_leave_and_come_back_and_nothing_else_does() {
    let (_, mut there, mut view) = two_clusters();
    assert_eq!(chosen(&view), ["10.2.0.1", "10.2.0.2"]);
    let change = apply(&mut view, &verdict("there", Some(Loss::Control), 0));
    assert!(change.upserts.is_empty() && change.deletes.len() == 2, "{change:?}");
    assert_eq!(chosen(&view), Vec::<String>::new());
    there.apply(slice("cart-x", &[("10.2.0.1", '+'), ("10.2.0.3", '+')]));
    let change = apply(&mut view, &mirrored(&mut there));
    assert!(change.is_empty(), "changes of a withdrawn cluster's backends wait: {change:?}");
    let change = apply(&mut view, &verdict("there", None, 0));
    assert!(change.deletes.is_empty());
    assert_eq!(change.upserts.len(), 2);
    assert_eq!(chosen(&view), ["10.2.0.1", "10.2.0.3"]);
}

#[test]
fn a_change_carries_the_sources_times() {
    let (mut here, _, mut view) = two_clusters();
    here.apply(pod("client", "10.1.0.10", "client"));
    let mut written = here.commit();
    let clock = federation::contract::ExportClock { unix_nanos: 5 };
    written.push(("isthmus/v1/export/clock".into(), Some(clock.encode().into())));
    let change = apply(&mut view, &written);
    assert_eq!(change.origin_times, [(ClusterName::new("here").unwrap(), 5)].into());
    let change = apply(&mut view, &mirror_record("there", 9));
    assert!(change.is_empty());
    assert_eq!(change.origin_times, [(ClusterName::new("there").unwrap(), 9)].into());
}

#[test]
fn a_value_that_cannot_be_read_counts_as_absent_and_is_named() {
    let (_, _, mut view) = two_clusters();
    let before = view.objects().count();
    let key = Bytes::from_static(b"cilium/cache/ip/v1/there/10.2.0.1");
    let (change, errors) = view.apply_values([(&key, Some(&Bytes::from_static(b"{")))]);
    assert_eq!(errors[0].to_string(), "cilium/cache/ip/v1/there/10.2.0.1 cannot be read and is left out of the view");
    assert_eq!(change.deletes.len(), 1);
    assert_eq!(view.objects().count(), before - 1);
}

#[test]
fn the_difference_of_two_views_is_what_happened_between_them() {
    let (mut here, mut there, mut view) = two_clusters();
    let earlier = view.clone();
    here.apply(pod("client", "10.1.0.10", "other"));
    there.apply(slice("cart-x", &[("10.2.0.1", '+')]));
    apply(&mut view, &here.commit());
    apply(&mut view, &mirrored(&mut there));
    apply(&mut view, &verdict("there", Some(Loss::Control), 0));
    let change = view.since(&earlier);
    let mut replayed: BTreeMap<Key, Object> = earlier.objects().map(|o| (o.key(), o.clone())).collect();
    for key in &change.deletes {
        assert!(replayed.remove(key).is_some(), "{key:?}");
    }
    replayed.extend(change.upserts.iter().map(|o| (o.key(), o.clone())));
    let now: BTreeMap<Key, Object> = view.objects().map(|o| (o.key(), o.clone())).collect();
    assert_eq!(replayed, now);
    assert!(view.since(&view).is_empty());
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Backends(bool, Vec<(u8, char)>),
    Service(bool, bool),
    NoService(bool),
    Pod(bool, u8, u8),
    Judge(Option<Loss>, u64),
    Never,
    Period(u32),
    /// Of the peer: whether its record and its configuration are there.
    Joined(bool, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let backends = proptest::collection::vec((0..6u8, proptest::sample::select(vec!['+', '-', 't'])), 0..5);
    prop_oneof![
        (any::<bool>(), backends).prop_map(|(here, list)| Step::Backends(here, list)),
        any::<(bool, bool)>().prop_map(|(here, global)| Step::Service(here, global)),
        any::<bool>().prop_map(Step::NoService),
        (any::<bool>(), 0..3u8, 0..4u8).prop_map(|(here, name, ip)| Step::Pod(here, name, ip)),
        (proptest::sample::select(vec![None, Some(Loss::Control), Some(Loss::Paths)]), 0..70u64)
            .prop_map(|(loss, outlived)| Step::Judge(loss, outlived)),
        proptest::strategy::Just(Step::Never),
        (15..70u32).prop_map(Step::Period),
        any::<(bool, bool)>().prop_map(|(record, config)| Step::Joined(record, config)),
    ]
}

proptest! {
    /// Whoever applies the changes one by one has what a fresh reader of the same store sees, and so has an index that is
    /// told the same in another way.
    #[test]
    fn changes_add_up_to_the_whole(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut here, mut there) = (Cluster::new("here", 1), Cluster::new("there", 2));
        let mut view = View::new(here.name.clone());
        let joined = mirrored(&mut Cluster::new("there", 2));
        let mut store: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let mut replica: BTreeMap<Key, Object> = BTreeMap::new();
        for step in steps {
            let pick = |is_here: bool| if is_here { 1 } else { 2 };
            let mut written = Vec::new();
            let mut on = |is_here: bool, what: &mut dyn FnMut(&mut Cluster)| {
                what(if is_here { &mut here } else { &mut there });
            };
            match step {
                Step::Backends(is_here, list) => {
                    let ips: Vec<(String, char)> =
                        list.into_iter().map(|(ip, s)| (format!("10.{}.0.{ip}", pick(is_here)), s)).collect();
                    let list: Vec<(&str, char)> = ips.iter().map(|(ip, s)| (ip.as_str(), *s)).collect();
                    on(is_here, &mut |c| c.apply(slice("cart-x", &list)));
                }
                Step::Service(is_here, global) => {
                    let annotations = json!({"service.cilium.io/global": global.to_string()});
                    on(is_here, &mut |c| c.apply(service(&format!("10.10{}.0.1", pick(is_here)), &annotations)));
                }
                Step::NoService(is_here) => {
                    let meta = Meta { name: "cart".into(), namespace: "shop".into(), ..Meta::default() };
                    on(is_here, &mut |c| c.delete(&ObjectKey::new(Kind::Service, &meta)));
                }
                Step::Pod(is_here, name, ip) => {
                    let ip = format!("10.{}.1.{ip}", pick(is_here));
                    on(is_here, &mut |c| c.apply(pod(&format!("p{name}"), &ip, &format!("app{name}"))));
                }
                Step::Judge(loss, outlived) => written = verdict("there", loss, outlived),
                Step::Joined(record, config) => {
                    written.extend(mirrored(&mut there));
                    written.extend(joined.iter().map(|(key, value)| {
                        let is_there = if key.starts_with(b"isthmus/") { record } else { config };
                        (key.clone(), value.clone().filter(|_| is_there))
                    }));
                }
                Step::Never | Step::Period(_) => {
                    let value = if let Step::Period(seconds) = step { format!("{seconds}s") } else { "never".to_owned() };
                    let annotations = json!({
                        "service.cilium.io/global": "true", "mesh.isthmus.io/withdraw-after": value,
                        "mesh.isthmus.io/stale-after": value,
                    });
                    on(true, &mut |c| c.apply(service("10.101.0.1", &annotations)));
                }
            }
            written.extend(here.commit());
            written.extend(mirrored(&mut there));
            let change = apply(&mut view, &written);
            for key in &change.deletes {
                prop_assert!(replica.remove(key).is_some(), "deleted what was not there: {key:?}");
            }
            replica.extend(change.upserts.iter().map(|o| (o.key(), o.clone())));
            for (key, value) in written {
                match value {
                    Some(value) => store.insert(key, value),
                    None => store.remove(&key),
                };
            }
        }
        let mut fresh = View::new(here.name.clone());
        fresh.apply_values(store.iter().map(|(k, v)| (k, Some(v))));
        let whole: BTreeMap<Key, Object> = fresh.objects().map(|o| (o.key(), o.clone())).collect();
        prop_assert_eq!(replica, whole);
        prop_assert_eq!(view.periods(), fresh.periods());
        prop_assert_eq!(view.stale_periods(), fresh.stale_periods());
    }
}
