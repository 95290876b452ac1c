//! Streams of items to batches, without an API server.

use serde_json::{Value, json};

use super::*;
use crate::source::kubernetes::resource::ALL;
use crate::source::kubernetes::wire;

fn item(kind: Kind, value: &Value) -> Item {
    let list = json!({"metadata": {"resourceVersion": "1"}, "items": [value]});
    wire::page(kind, &list.to_string()).unwrap().items.remove(0)
}

fn namespace(name: &str, version: &str) -> Item {
    item(Kind::Namespace, &json!({"metadata": {"name": name, "resourceVersion": version}}))
}

fn pod(name: &str, version: &str) -> Item {
    item(Kind::Pod, &json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": version}}))
}

fn malformed(name: &str, version: &str) -> Item {
    let containers = json!([{"ports": [{"containerPort": "http"}]}]);
    let metadata = json!({"name": name, "namespace": "shop", "resourceVersion": version});
    item(Kind::Pod, &json!({"metadata": metadata, "spec": {"containers": containers}}))
}

fn shown(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Apply(object) => format!("+{}", object.key()),
        Change::Delete(key) => format!("-{key}"),
    };
    changes.iter().map(word).collect()
}

fn inventory() -> Inventory {
    let mut inventory = Inventory::new("https://api".to_owned(), ALL.iter().map(|resource| resource.kind));
    inventory.apply(namespace("shop", "1"));
    inventory
}

fn list(inventory: &mut Inventory, kind: Kind, items: Vec<Item>) -> Vec<String> {
    inventory.begin_list(kind);
    let mut changes: Vec<Change> = items.into_iter().flat_map(|item| inventory.apply(item)).collect();
    changes.extend(inventory.end_list(kind));
    shown(&changes)
}

#[test]
fn a_list_after_a_gap_delivers_what_differs_and_takes_back_what_is_gone_only_at_its_end() {
    let mut inventory = inventory();
    list(&mut inventory, Kind::Pod, vec![pod("a", "1"), pod("b", "1"), pod("c", "1")]);
    inventory.begin_list(Kind::Pod);
    assert_eq!(shown(&inventory.apply(pod("a", "1"))), [""; 0], "unchanged");
    assert_eq!(shown(&inventory.apply(pod("b", "5"))), ["+Pod shop/b"]);
    assert_eq!(shown(&inventory.apply(pod("d", "6"))), ["+Pod shop/d"]);
    assert_eq!(inventory.status().objects, 5, "c holds until the end");
    assert_eq!(shown(&inventory.end_list(Kind::Pod)), ["-Pod shop/c"]);
    assert_eq!(inventory.status().objects, 4);
    assert_eq!(shown(&inventory.end_list(Kind::Pod)), [""; 0], "a list ends once");
}

#[test]
fn a_list_that_broke_off_takes_nothing_back() {
    let mut inventory = inventory();
    list(&mut inventory, Kind::Pod, vec![pod("a", "1"), pod("b", "1")]);
    inventory.begin_list(Kind::Pod);
    inventory.apply(pod("a", "2"));
    assert_eq!(list(&mut inventory, Kind::Pod, vec![pod("a", "2"), pod("b", "1")]), [""; 0]);
}

#[test]
fn a_list_of_one_kind_says_nothing_of_another() {
    let mut inventory = inventory();
    list(&mut inventory, Kind::Pod, vec![pod("a", "1")]);
    assert_eq!(list(&mut inventory, Kind::Node, Vec::new()), [""; 0]);
    assert_eq!(list(&mut inventory, Kind::Namespace, Vec::new()), ["-Namespace shop"]);
}

#[test]
fn the_scan_is_complete_once_when_every_kind_was_listed() {
    let mut inventory = inventory();
    let kinds: Vec<Kind> = ALL.iter().map(|resource| resource.kind).collect();
    let told: Vec<bool> = kinds.iter().map(|kind| inventory.listed(*kind)).collect();
    assert_eq!(told.iter().filter(|told| **told).count(), 1);
    assert_eq!(told.last(), Some(&true));
    assert!(!inventory.listed(Kind::Pod), "a later list completes nothing");
    assert!(!inventory.delayed(), "and nothing is late any more");
}

#[test]
fn a_malformed_object_is_left_out_alone_and_named_until_it_is_right_or_gone() {
    let mut inventory = inventory();
    assert_eq!(list(&mut inventory, Kind::Pod, vec![pod("a", "1"), malformed("b", "1")]), ["+Pod shop/a"]);
    let reason = "invalid type: string \"http\", expected u16".to_owned();
    let rejection = Rejection { object: "Pod shop/b".to_owned(), reason };
    assert_eq!(inventory.take_news(), std::slice::from_ref(&rejection));
    assert_eq!(inventory.status().rejections, [rejection]);
    assert_eq!(shown(&inventory.apply(malformed("b", "2"))), [""; 0]);
    assert_eq!(inventory.take_news(), [], "said once");
    assert_eq!(shown(&inventory.apply(pod("b", "3"))), ["+Pod shop/b"]);
    assert_eq!(inventory.status().rejections, []);
    assert_eq!(shown(&inventory.apply(malformed("b", "4"))), ["-Pod shop/b"], "what it was no longer holds");
    assert_eq!(shown(&inventory.delete(&pod("b", "5").key)), [""; 0]);
    assert_eq!((inventory.status().rejections.len(), inventory.status().objects), (0, 2));
}

#[test]
fn an_object_waits_for_its_namespace() {
    let mut inventory = Inventory::new("https://api".to_owned(), ALL.iter().map(|resource| resource.kind));
    assert_eq!(list(&mut inventory, Kind::Pod, vec![pod("a", "1"), pod("b", "1")]), [""; 0]);
    assert_eq!(shown(&inventory.delete(&pod("b", "2").key)), [""; 0]);
    assert_eq!(shown(&inventory.apply(namespace("other", "2"))), ["+Namespace other"]);
    assert_eq!(shown(&inventory.apply(pod("a", "3"))), [""; 0]);
    assert_eq!(shown(&inventory.apply(namespace("shop", "4"))), ["+Namespace shop", "+Pod shop/a"]);
    // The end of a Namespace may be told before that of what was in it.
    assert_eq!(shown(&inventory.delete(&namespace("shop", "5").key)), ["-Namespace shop"]);
    assert_eq!(shown(&inventory.apply(pod("a", "6"))), [""; 0]);
    assert_eq!(shown(&inventory.delete(&pod("a", "7").key)), ["-Pod shop/a"]);
    assert_eq!(shown(&inventory.apply(namespace("shop", "8"))), ["+Namespace shop"]);
}

#[test]
fn a_namespace_that_cannot_be_read_lets_nothing_wait_and_says_so() {
    let mut inventory = Inventory::new("https://api".to_owned(), ALL.iter().map(|resource| resource.kind));
    inventory.apply(pod("a", "1"));
    let odd = item(Kind::Namespace, &json!({"metadata": {"name": "shop", "labels": [], "resourceVersion": "2"}}));
    assert_eq!(shown(&inventory.apply(odd)), ["+Namespace shop", "+Pod shop/a"]);
    assert_eq!(inventory.status().rejections[0].object, "Namespace shop");
}

#[test]
fn trouble_lasts_since_the_first_and_says_every_reason_once() {
    let mut inventory = inventory();
    assert_eq!(inventory.status().trouble, None);
    assert!(inventory.failed(Kind::Node, "cannot be reached".to_owned(), 7));
    assert!(!inventory.failed(Kind::Pod, "cannot be reached".to_owned(), 8), "the log has it");
    assert!(inventory.failed(Kind::Service, "may not list".to_owned(), 9));
    inventory.failed(Kind::Node, "may not list".to_owned(), 10);
    let trouble = inventory.status().trouble.unwrap();
    assert_eq!((trouble.since_unix_nanos, trouble.reason.as_str()), (7, "may not list; cannot be reached"));
    assert!(!inventory.recovered(Kind::Node) && !inventory.recovered(Kind::Pod) && !inventory.recovered(Kind::Pod));
    assert!(inventory.recovered(Kind::Service), "the last");
    assert_eq!(inventory.status().trouble, None);
    assert!(inventory.delayed() && !inventory.delayed(), "said once");
}
