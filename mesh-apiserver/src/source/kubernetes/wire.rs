//! The API server's text to items and events. Pure.
//!
//! An object is read out of its text straight into the fields that the mesh uses: what is left out (managed fields,
//! annotations of others, containers' environments) is never kept, not even for the length of a page.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::objects::{Kind, Object, ObjectKey};
use crate::source::reader;

/// One object as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: ObjectKey,
    /// Its resourceVersion.
    pub(super) version: Box<str>,
    pub(super) read: Result<Box<Object>, Malformed>,
}

/// An object that is not what its kind should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) reason: String,
    /// What counts in its place.
    pub(super) stand_in: Option<Box<Object>>,
}

/// Part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// Of the whole list: where a watch goes on.
    pub(super) version: String,
    /// Asks for the next part; `None` on the last.
    pub(super) next: Option<String>,
}

/// One line of a watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Applied(Item),
    Deleted {
        key: ObjectKey,
        version: Box<str>,
    },
    /// Nothing happened up to here.
    Bookmark {
        version: Box<str>,
    },
    /// The watch ends with this.
    Error {
        code: u16,
        message: String,
    },
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMeta,
    #[serde(default, borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    word: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What every object has.
#[derive(Default, Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    resource_version: Box<str>,
}

/// `metav1.Status`
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

pub(super) fn page(kind: Kind, text: &str) -> Result<Page, serde_json::Error> {
    let list: List<'_> = serde_json::from_str(text)?;
    let items = list.items.unwrap_or_default().into_iter().map(|raw| item(kind, raw)).collect();
    let next = list.metadata.next.filter(|token| !token.is_empty());
    Ok(Page { items, version: list.metadata.resource_version, next })
}

pub(super) fn event(kind: Kind, line: &str) -> Result<Event, serde_json::Error> {
    let line: Line<'_> = serde_json::from_str(line)?;
    Ok(match line.word.as_str() {
        "ADDED" | "MODIFIED" => Event::Applied(item(kind, line.object)),
        "DELETED" => {
            let (key, version) = head(kind, line.object)?;
            Event::Deleted { key, version }
        }
        "BOOKMARK" => Event::Bookmark { version: head(kind, line.object)?.1 },
        "ERROR" => {
            let Status { code, message } = serde_json::from_str(line.object.get())?;
            Event::Error { code, message }
        }
        other => {
            let unknown = format!("a watch has no event of type {other:?}");
            return Err(serde::de::Error::custom(unknown));
        }
    })
}

fn head(kind: Kind, raw: &RawValue) -> Result<(ObjectKey, Box<str>), serde_json::Error> {
    let Head { metadata } = serde_json::from_str(raw.get())?;
    let namespace = if kind.is_namespaced() { metadata.namespace } else { String::new() };
    Ok((ObjectKey { kind, namespace, name: metadata.name }, metadata.resource_version))
}

fn item(kind: Kind, raw: &RawValue) -> Item {
    let malformed = |reason: String| Malformed { reason, stand_in: None };
    let (key, version) = match head(kind, raw) {
        Ok(head) => head,
        Err(error) => {
            let key = ObjectKey { kind, namespace: String::new(), name: String::new() };
            return Item { key, version: Box::default(), read: Err(malformed(error.to_string())) };
        }
    };
    let read = if key.name.is_empty() {
        Err(malformed("`metadata.name` is missing".to_owned()))
    } else if let Some(reason) = reader::unusable_name(&key) {
        Err(malformed(reason))
    } else {
        object(kind, raw)
            .map(Box::new)
            .map_err(|reason| Malformed { reason, stand_in: reader::stand_in(kind, &key.name).map(Box::new) })
    };
    Item { key, version, read }
}

fn object(kind: Kind, raw: &RawValue) -> Result<Object, String> {
    reader::object(kind, &mut serde_json::Deserializer::from_str(raw.get())).map_err(|at_place| {
        // Read again as a tree, whose errors have no line and column of a text that nobody sees.
        let tree: Result<Value, _> = serde_json::from_str(raw.get());
        let plain = tree.ok().and_then(|tree| reader::object(kind, tree).err());
        plain.unwrap_or(at_place).to_string()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_its_items_its_version_and_the_way_to_the_next() {
        let good = json!({"metadata": {"name": "p", "namespace": "shop", "resourceVersion": "7", "managedFields": [{}]},
                          "status": {"podIP": "10.1.0.2"}});
        let bad = json!({"metadata": {"name": "q", "namespace": "shop", "resourceVersion": "8"},
                         "spec": {"containers": [{"ports": [{"containerPort": 70000}]}]}});
        let list =
            json!({"kind": "PodList", "metadata": {"resourceVersion": "9", "continue": "more"}, "items": [good, bad]});
        let page = page(Kind::Pod, &list.to_string()).unwrap();
        assert_eq!((page.version.as_str(), page.next.as_deref()), ("9", Some("more")));
        let [good, bad] = &page.items[..] else { panic!("{page:?}") };
        assert_eq!((good.key.to_string(), &*good.version), ("Pod shop/p".to_owned(), "7"));
        assert!(matches!(good.read.as_deref(), Ok(Object::Pod(pod)) if pod.own_ips().len() == 1));
        let reason = "invalid value: integer `70000`, expected u16".to_owned();
        assert_eq!(bad.read, Err(Malformed { reason, stand_in: None }));
        assert_eq!((bad.key.to_string(), &*bad.version), ("Pod shop/q".to_owned(), "8"));
    }

    #[test]
    fn the_last_page_has_no_next_and_an_empty_list_no_items() {
        let text = r#"{"metadata": {"resourceVersion": "9", "continue": ""}, "items": null}"#;
        assert_eq!(page(Kind::Pod, text).unwrap(), Page { items: Vec::new(), version: "9".to_owned(), next: None });
        assert!(page(Kind::Pod, "<html>a proxy's word</html>").is_err());
    }

    #[test]
    fn a_namespace_that_cannot_be_read_has_a_stand_in_that_says_no_more_than_its_name() {
        let raw =
            r#"{"type": "MODIFIED", "object": {"metadata": {"name": "shop", "labels": [], "resourceVersion": "3"}}}"#;
        let Event::Applied(item) = event(Kind::Namespace, raw).unwrap() else { panic!("applied") };
        let Some(Object::Namespace(stand_in)) = item.read.unwrap_err().stand_in.map(|object| *object) else {
            panic!("a Namespace")
        };
        assert!(stand_in.is_unreadable && stand_in.metadata.name == "shop");
    }

    #[test]
    fn events_are_told_apart_by_their_type() {
        let line = |word: &str| {
            let object = json!({"kind": "Node", "metadata": {"name": "n1", "resourceVersion": "12"}, "code": 410, "message": "too old"});
            event(Kind::Node, &json!({"type": word, "object": object}).to_string())
        };
        let (key, version) = (ObjectKey { kind: Kind::Node, namespace: String::new(), name: "n1".into() }, "12".into());
        assert!(matches!(line("ADDED").unwrap(), Event::Applied(item) if item.key == key && item.version == version));
        assert_eq!(line("DELETED").unwrap(), Event::Deleted { key, version });
        assert_eq!(line("BOOKMARK").unwrap(), Event::Bookmark { version: "12".into() });
        assert_eq!(line("ERROR").unwrap(), Event::Error { code: 410, message: "too old".into() });
        assert_eq!(line("SYNCED").unwrap_err().to_string(), "a watch has no event of type \"SYNCED\"");
    }

    #[test]
    fn an_object_without_a_name_is_left_out_and_its_neighbours_are_not() {
        let list = json!({"metadata": {"resourceVersion": "9"}, "items": [{"metadata": 5}, {"metadata": {}}, {"metadata": {"name": "n"}}]});
        let items = page(Kind::Node, &list.to_string()).unwrap().items;
        assert_eq!(items.iter().map(|item| item.read.is_ok()).collect::<Vec<_>>(), [false, false, true]);
    }
}
