use std::time::Duration;

use bytes::Bytes;
use federation::contract::IpValue;
use mesh_types::{ClusterId, IdentityLayout};

use super::*;
use crate::examples::{Cluster, node, pod, service, slice};
use crate::identity::Allocator;
use crate::objects::{Kind, Meta, ObjectKey};

const SECOND: u64 = 1_000_000_000;

fn keys(written: &[(Bytes, Option<Bytes>)]) -> Vec<String> {
    let sign = |v: &Option<Bytes>| if v.is_some() { '+' } else { '-' };
    written.iter().map(|(k, v)| format!("{}{}", sign(v), String::from_utf8_lossy(k))).collect()
}

fn number(written: &[(Bytes, Option<Bytes>)], ip: &str) -> u32 {
    let key = format!("cilium/state/ip/v1/default/{ip}");
    let value = written.iter().find(|(k, _)| *k == key).and_then(|(_, v)| v.clone()).expect("the address");
    IpValue::decode(&value).unwrap().id
}

fn pod_key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Pod, &Meta { name: name.into(), namespace: "shop".into(), ..Meta::default() })
}

#[test]
fn a_pods_number_is_written_before_its_address_and_once_for_equal_labels() {
    let mut east = Cluster::new("east", 7);
    east.commit();
    east.apply(pod("cart-1", "10.7.1.2", "cart"));
    let written = east.commit();
    let first = number(&written, "10.7.1.2");
    assert_eq!(first >> 16, 7);
    let labels = "k8s:app=cart;k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop;\
                  k8s:io.cilium.k8s.policy.cluster=east;k8s:io.cilium.k8s.policy.serviceaccount=default;\
                  k8s:io.kubernetes.pod.namespace=shop;";
    assert_eq!(
        keys(&written),
        [
            format!("+isthmus/v1/identity/id/{first}"),
            format!("+isthmus/v1/identity/labels/{labels}"),
            format!("+cilium/state/identities/v1/id/{first}"),
            "+cilium/state/ip/v1/default/10.7.1.2".to_owned(),
        ]
    );
    east.apply(pod("cart-2", "10.7.1.3", "cart"));
    let written = east.commit();
    assert_eq!(keys(&written), ["+cilium/state/ip/v1/default/10.7.1.3"]);
    assert_eq!(number(&written, "10.7.1.3"), first);
}

#[test]
fn a_number_leaves_the_export_after_the_quarantine_and_not_with_its_last_address() {
    let mut east = Cluster::new("east", 7);
    east.apply(pod("cart-1", "10.7.1.2", "cart"));
    east.commit();
    east.now = 10 * SECOND;
    east.delete(&pod_key("cart-1"));
    let written = keys(&east.commit());
    assert!(written.contains(&"-cilium/state/ip/v1/default/10.7.1.2".to_owned()), "{written:?}");
    assert!(!written.iter().any(|k| k.starts_with("-cilium/state/identities")), "{written:?}");
    east.facts.expire(54 * SECOND);
    assert!(east.commit().is_empty());
    east.facts.expire(55 * SECOND);
    assert_eq!(east.commit().len(), 3, "record, labels, exported value");
}

#[test]
fn a_restart_that_changes_nothing_writes_nothing() {
    let objects = || {
        [
            node("n1", "192.0.2.17", "10.7.1.0/24"),
            pod("cart-1", "10.7.1.2", "cart"),
            service("10.96.7.20", &serde_json::json!({"service.cilium.io/global": "true"})),
            slice("cart-x", &[("10.7.1.2", '+')]),
        ]
    };
    let config = federation::contract::ClusterConfig::own(ClusterId::new(7).unwrap(), IdentityLayout::Clusters255);
    let mut first = Cluster::new("east", 7);
    for object in objects() {
        first.apply(object);
    }
    first.facts.scan_is_complete(SECOND);
    first.facts.announce(&config, "2026-11-24T00:00:00Z");
    let stored: Vec<(Bytes, Bytes)> = first.commit().into_iter().map(|(k, v)| (k, v.expect("only puts"))).collect();

    let mut second = Cluster::new("east", 7);
    assert!(second.facts.load(stored.clone()).is_empty());
    for object in objects() {
        second.apply(object);
    }
    second.facts.announce(&config, "2026-11-24T01:00:00Z");
    second.facts.scan_is_complete(2 * SECOND);
    assert_eq!(keys(&second.commit()), Vec::<String>::new());

    let mut third = Cluster::new("east", 7);
    third.facts.load(stored);
    third.apply(node("n1", "192.0.2.17", "10.7.1.0/24"));
    assert!(third.commit().is_empty(), "nothing is removed before the scan is complete");
    third.facts.announce(&config, "2026-11-24T01:00:00Z");
    third.facts.scan_is_complete(2 * SECOND);
    let gone = keys(&third.commit());
    assert!(gone.contains(&"-cilium/state/services/v1/east/shop/cart".to_owned()), "{gone:?}");
    assert!(gone.contains(&"-cilium/state/ip/v1/default/10.7.1.2".to_owned()), "{gone:?}");
    assert!(!gone.iter().any(|k| k.starts_with("-cilium/synced")), "{gone:?}");
}

#[test]
fn a_pod_without_a_free_number_is_init_until_one_is_free() {
    let mut east = Cluster::new("east", 7);
    let full = Allocator::new(IdentityLayout::Clusters511, ClusterId::new(7).unwrap(), Duration::from_secs(45));
    let full = full.limited_to(1);
    east.facts = Facts::new(east.name.clone(), full);
    east.apply(pod("cart-1", "10.7.1.2", "cart"));
    east.apply(pod("pay-1", "10.7.1.3", "pay"));
    let written = east.commit();
    assert_eq!(number(&written, "10.7.1.3"), 5);
    assert_eq!(east.facts.waiting().count(), 1);
    let taken = number(&written, "10.7.1.2");
    east.now = SECOND;
    east.delete(&pod_key("cart-1"));
    east.facts.expire(46 * SECOND);
    assert_eq!(number(&east.commit(), "10.7.1.3"), taken);
    assert_eq!(east.facts.waiting().count(), 0);
}
