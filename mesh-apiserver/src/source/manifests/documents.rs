//! The text of one file to objects. Pure.

use serde_json::Value;

use crate::objects::{Kind, Object, ServiceExport};
use crate::source::reader;

/// One document of a file, or one item of a `List`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    Object(Box<Object>),
    /// A kind that the mesh does not read.
    Ignored,
    Rejected {
        /// Document number in the file, from 1; `3.2` is the second item of the list in the third.
        place: String,
        /// "Kind namespace/name", as far as it could be read.
        object: Option<String>,
        reason: String,
    },
}

/// Every document of a file. An empty document is nothing.
pub(super) fn parse(text: &str, is_json: bool) -> Vec<Document> {
    let mut out = Vec::new();
    if is_json {
        for (index, value) in serde_json::Deserializer::from_str(text).into_iter::<Value>().enumerate() {
            let place = (index + 1).to_string();
            match value {
                Ok(value) => read(&place, value, &mut out),
                Err(e) => out.push(Document::Rejected { place, object: None, reason: format!("not JSON: {e}") }),
            }
        }
        return out;
    }
    for (index, (first_line, text)) in split(text).into_iter().enumerate() {
        let place = (index + 1).to_string();
        let options = serde_saphyr::Options { strict_booleans: true, ..serde_saphyr::Options::default() };
        match serde_saphyr::from_str_with_options::<Value>(&text, options) {
            Ok(value) => read(&place, value, &mut out),
            Err(e) => {
                let reason = format!("not YAML (document starts at line {first_line}): {e}");
                let object = named_in_text(&text);
                let namespace = object.as_deref().and_then(|object| object.strip_prefix("Namespace "));
                let stand_in = namespace.and_then(|name| unreadable(Kind::Namespace, name));
                out.push(Document::Rejected { place, object, reason });
                out.extend(stand_in);
            }
        }
    }
    out
}

/// Cuts a stream at its `---` markers, so that one broken document cannot take its neighbours along. The marker cannot be
/// part of a document: YAML forbids it at the start of a line even in block scalars (YAML 1.2.2, 9.1.2).
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (number, line) in text.lines().enumerate() {
        let marker = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = marker {
            documents.push((number + 1, rest.to_owned() + "\n"));
        } else if let Some((_, current)) = documents.last_mut() {
            current.push_str(line);
            current.push('\n');
        }
    }
    documents.retain(|(_, text)| text.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')));
    documents
}

/// The object's name by eye, for a document that does not parse.
fn named_in_text(text: &str) -> Option<String> {
    let field = |name: &str| {
        let line = text.lines().map(str::trim).find(|l| l.starts_with(name))?;
        let value = line.split_once(':')?.1.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    Some(format!("{} {}", field("kind:")?, field("name:")?))
}

fn read(place: &str, value: Value, out: &mut Vec<Document>) {
    if value.is_null() {
        return;
    }
    let reject =
        |object: Option<String>, reason: String| Document::Rejected { place: place.to_owned(), object, reason };
    let Some(kind) = value.get("kind").and_then(Value::as_str).map(str::to_owned) else {
        out.push(reject(None, "not a Kubernetes object: `kind` is missing".to_owned()));
        return;
    };
    if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
        let Value::Object(mut list) = value else { return };
        let Some(Value::Array(items)) = list.remove("items") else { return };
        let version = list.remove("apiVersion");
        for (index, mut item) in items.into_iter().enumerate() {
            // Items of a typed list (`PodList`) may leave their kind and version out.
            let item_kind = kind.strip_suffix("List").filter(|k| !k.is_empty());
            if let (Some(fields), Some(item_kind)) = (item.as_object_mut(), item_kind) {
                fields.entry("kind").or_insert_with(|| Value::String(item_kind.to_owned()));
                fields.entry("apiVersion").or_insert_with(|| version.clone().unwrap_or_default());
            }
            read(&format!("{place}.{}", index + 1), item, out);
        }
        return;
    }
    let Some(known) = Kind::parse(&kind) else {
        out.push(Document::Ignored);
        return;
    };
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    let object = if known.is_namespaced() { format!("{kind} {namespace}/{name}") } else { format!("{kind} {name}") };
    if known == Kind::ServiceExport {
        match ServiceExport::is_version(value.get("apiVersion").and_then(Value::as_str).unwrap_or_default()) {
            None => return out.push(Document::Ignored),
            Some(Err(reason)) => return out.push(reject(Some(object), reason)),
            Some(Ok(())) => {}
        }
    }
    match reader::object(known, value) {
        Ok(read) if read.key().name.is_empty() => {
            out.push(reject(Some(kind), "`metadata.name` is missing".to_owned()));
        }
        Ok(read) => match reader::unusable_name(&read.key()) {
            None => out.push(Document::Object(Box::new(read))),
            Some(reason) => out.push(reject(Some(object), reason)),
        },
        Err(e) => {
            out.push(reject(Some(object), e.to_string()));
            out.extend(unreadable(known, &name));
        }
    }
}

/// The stand-in of a Namespace that cannot be read, as a document.
fn unreadable(kind: Kind, name: &str) -> Option<Document> {
    reader::stand_in(kind, name).map(|object| Document::Object(Box::new(object)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(documents: &[Document]) -> Vec<String> {
        documents
            .iter()
            .map(|d| match d {
                Document::Object(o) => o.key().to_string(),
                Document::Ignored => "ignored".to_owned(),
                Document::Rejected { place, object, reason } => {
                    format!("rejected {place} {}: {reason}", object.as_deref().unwrap_or("?"))
                }
            })
            .collect()
    }

    #[test]
    fn a_broken_document_does_not_take_its_neighbours_along() {
        let text = "kind: Service\nmetadata: {name: a, namespace: shop}\n---\nkind: Pod\nmetadata:\n  name: b\n bad: [\n---\n\
                    # only a comment\n---\nkind: Node\nmetadata: {name: n1}\n";
        let found = keys(&parse(text, false));
        assert_eq!(found[0], "Service shop/a");
        assert!(found[1].starts_with("rejected 2 Pod b: not YAML (document starts at line 3)"), "{}", found[1]);
        assert_eq!(found[2], "Node n1");
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_wrong_type_names_the_object_and_the_reason() {
        let text = "kind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}\n";
        let found = keys(&parse(text, false));
        assert_eq!(found, ["rejected 1 Service default/a: invalid value: integer `70000`, expected u16"]);
        assert_eq!(keys(&parse("kind: Pod\n", false)), ["rejected 1 Pod default/: missing field `metadata`"],);
        assert_eq!(keys(&parse("just: text\n", false)), ["rejected 1 ?: not a Kubernetes object: `kind` is missing"]);
    }

    #[test]
    fn a_service_export_is_read_in_both_versions_and_of_its_own_group_alone() {
        let export = |version: &str, more: &str| {
            keys(&parse(
                &format!("{version}\nkind: ServiceExport\nmetadata: {{name: cart, namespace: shop}}\n{more}"),
                false,
            ))
        };
        for version in ["apiVersion: multicluster.x-k8s.io/v1beta1", "apiVersion: multicluster.x-k8s.io/v1alpha1"] {
            assert_eq!(export(version, "spec: {exportedLabels: {tier: back}}\n"), ["ServiceExport shop/cart"]);
            assert_eq!(export(version, "spec:\nstatus: {conditions: []}\n"), ["ServiceExport shop/cart"]);
        }
        assert_eq!(export("apiVersion: net.gke.io/v1", ""), ["ignored"]);
        let wanted = "write multicluster.x-k8s.io/v1beta1 or multicluster.x-k8s.io/v1alpha1";
        let rejected = |reason: &str| vec![format!("rejected 1 ServiceExport shop/cart: {reason}: {wanted}")];
        let later = export("apiVersion: multicluster.x-k8s.io/v2", "");
        assert_eq!(later, rejected("apiVersion \"multicluster.x-k8s.io/v2\" is not known"));
        assert_eq!(export("", ""), rejected("`apiVersion` is missing"));
        let odd = export("apiVersion: multicluster.x-k8s.io/v1beta1", "spec: {exportedLabels: {tier: [back]}}\n");
        assert!(odd[0].starts_with("rejected 1 ServiceExport shop/cart: invalid type: sequence"), "{odd:?}");
        let list = r#"{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceExportList","items":[{"metadata":{"name":"a",
            "namespace":"shop","creationTimestamp":"2026-03-04T05:06:07Z"},"spec":{"exportedAnnotations":{"team":"a"}}}]}"#;
        let [Document::Object(object)] = &parse(list, true)[..] else { panic!("one object") };
        let Object::ServiceExport(export) = &**object else { panic!("{object:?}") };
        assert_eq!(export.creation_timestamp.as_deref(), Some("2026-03-04T05:06:07Z"));
        assert_eq!((export.exported_annotations["team"].as_str(), export.exported_labels.len()), ("a", 0));
    }

    #[test]
    fn a_namespace_that_cannot_be_read_is_there_by_its_name_and_says_no_more() {
        let by_type = "kind: Namespace\nmetadata: {name: shop, annotations: {mesh.isthmus.io/export-to: [b]}}\n";
        let by_syntax = "kind: Namespace\nmetadata:\n  name: shop\n bad: [\n";
        for text in [by_type, by_syntax] {
            let documents = parse(text, false);
            assert!(keys(&documents)[0].starts_with("rejected 1 Namespace shop: "), "{:?}", keys(&documents));
            let Document::Object(object) = &documents[1] else { panic!("{documents:?}") };
            let Object::Namespace(namespace) = &**object else { panic!("{object:?}") };
            assert!(namespace.is_unreadable && namespace.metadata.name == "shop" && documents.len() == 2);
        }
        assert_eq!(parse("kind: Namespace\nmetadata: {name: [x]}\n", false).len(), 1, "no name to stand for");
        let [Document::Object(object)] = &parse("kind: Namespace\nmetadata: {name: shop}\n", false)[..] else {
            panic!("one object")
        };
        assert!(matches!(&**object, Object::Namespace(namespace) if !namespace.is_unreadable));
    }

    #[test]
    fn lists_and_json_are_read_and_other_kinds_are_counted() {
        let list =
            "kind: List\nitems:\n- {kind: Pod, metadata: {name: p}}\n- {kind: Deployment, metadata: {name: d}}\n";
        assert_eq!(keys(&parse(list, false)), ["Pod default/p", "ignored"]);
        let json = r#"{"kind":"PodList","items":[{"metadata":{"name":"p","labels":null}}]} {"kind":"Node","metadata":{"name":"n"}}"#;
        assert_eq!(keys(&parse(json, true)), ["Pod default/p", "Node n"]);
    }

    #[test]
    fn quoted_scalars_stay_text_and_markers_with_content_start_a_document() {
        let text = "--- {kind: Service, metadata: {name: a, annotations: {\"service.cilium.io/global\": \"true\"}}}\n";
        let [Document::Object(object)] = &parse(text, false)[..] else { panic!("one object") };
        let Object::Service(service) = &**object else { panic!("a Service") };
        assert_eq!(service.metadata.annotations["service.cilium.io/global"], "true");
    }
}
