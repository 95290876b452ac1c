use bytes::Bytes;
use federation::Loss;
use serde_json::json;

use super::super::tests::{apply, chosen, two_clusters, verdict};
use super::*;
use crate::examples::{mirrored, pod, service, slice};

const RECORD: &str = "isthmus/v1/peers/there";
const CONFIG: &str = "cilium/cluster-config/there";

type Written = Vec<(Bytes, Option<Bytes>)>;

/// The record and the configuration of `there`, as they were written when it was joined.
fn joined() -> Written {
    let written = mirrored(&mut crate::examples::Cluster::new("there", 2));
    assert_eq!(written.len(), 2, "{written:?}");
    written
}

fn gone(key: &'static str) -> Written {
    vec![(Bytes::from_static(key.as_bytes()), None)]
}

fn of_there(view: &View) -> usize {
    view.objects().filter(|object| owner(&object.key(), object) == Some("there")).count()
}

#[test]
fn a_parted_clusters_facts_are_hidden_with_its_record_in_the_order_in_which_they_may_be_removed() {
    let (_, mut there, mut view) = two_clusters();
    let (before, known) = (view.objects().count(), view.facts().len());
    assert_eq!(of_there(&view), 6);
    let change = apply(&mut view, &gone(RECORD));
    assert!(change.upserts.is_empty());
    let kinds = change.deletes.iter().map(|key| match key {
        Key::Cluster(_) => 'c',
        Key::Identity(_) => 'i',
        Key::Node { .. } => 'n',
        Key::Ip { .. } => 'a',
        Key::Service { .. } => 's',
        Key::Backend { .. } => 'b',
    });
    assert_eq!(kinds.collect::<String>(), "bbsanic");
    assert_eq!((view.objects().count(), of_there(&view)), (before - 7, 0));
    assert_eq!(view.facts().len(), known - 1, "all but the record is still there");
    assert_eq!(chosen(&view), Vec::<String>::new());
    assert!(view.service_rows().iter().all(|row| row.standings.is_empty()));
    assert_eq!(view.service_names().0.len(), 1, "the own one of that name");

    // What is removed after the pause, and whatever is said of it until then, is news to nobody.
    for quiet in [gone(CONFIG), verdict("there", Some(Loss::Cluster), 0), verdict("there", None, 0)] {
        assert!(apply(&mut view, &quiet).is_empty());
    }
    there.apply(slice("cart-x", &[("10.2.0.1", '+'), ("10.2.0.3", '+')]));
    there.apply(pod("cart-3", "10.2.0.3", "cart"));
    assert!(apply(&mut view, &mirrored(&mut there)).is_empty());
}

#[test]
fn a_cluster_that_is_joined_again_is_shown_when_it_has_told_its_configuration() {
    let (_, _, mut view) = two_clusters();
    let whole: Vec<Object> = view.objects().cloned().collect();
    apply(&mut view, &[gone(RECORD), gone(CONFIG)].concat());
    let is_config = |(key, _): &(Bytes, Option<Bytes>)| *key == CONFIG;
    let (config, record): (Written, Written) = joined().into_iter().partition(is_config);
    let change = apply(&mut view, &record);
    assert!(matches!(&change.upserts[..], [Object::Cluster(_)]) && change.deletes.is_empty(), "{change:?}");
    let change = apply(&mut view, &config);
    assert_eq!((change.upserts.len(), change.deletes.len()), (6, 0));
    assert_eq!(view.objects().cloned().collect::<Vec<_>>(), whole);
    // The other way round as well: the order of keys in one read of the store is no other than any.
    apply(&mut view, &gone(RECORD));
    assert!(apply(&mut view, &config).is_empty());
    assert_eq!(apply(&mut view, &record).upserts.len(), 7);
}

#[test]
fn a_setting_of_the_own_service_neither_shows_nor_removes_what_is_hidden() {
    let (mut here, _, mut view) = two_clusters();
    apply(&mut view, &verdict("there", Some(Loss::Control), 0));
    apply(&mut view, &gone(RECORD));
    here.apply(service(
        "10.101.0.1",
        &json!({"mesh.isthmus.io/global": "true", "mesh.isthmus.io/withdraw-after": "never"}),
    ));
    let change = apply(&mut view, &here.commit());
    assert!(matches!(&change.upserts[..], [Object::Service(_)]) && change.deletes.is_empty(), "{change:?}");
    let change = apply(&mut view, &joined());
    assert_eq!(change.upserts.len(), 7, "by its new setting the Service uses them");
}

#[test]
fn the_own_clusters_facts_need_no_record() {
    let (_, _, mut view) = two_clusters();
    let change = apply(&mut view, &[gone("isthmus/v1/cluster"), gone("cilium/cluster-config/here")].concat());
    assert!(matches!(&change.deletes[..], [Key::Cluster(_)]), "{change:?}");
}
