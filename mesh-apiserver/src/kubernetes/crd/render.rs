//! The CustomResourceDefinitions as objects, for the chart and for tests.

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::{ClusterPeering, MeshConfig, SINGLETON};

/// Both definitions, each with the name of its file in the chart.
pub fn definitions() -> [(&'static str, Value); 2] {
    let peering = json!([{
        "rule": "self.metadata.name.size() <= 32 && self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        "message": "metadata.name is the other cluster's name: at most 32 of a-z, 0-9 and -",
    }]);
    let config = json!([{
        "rule": format!("self.metadata.name == '{SINGLETON}'"),
        "message": format!("there is one MeshConfig, and its name is {SINGLETON}"),
    }]);
    [
        ("clusterpeerings", definition(&ClusterPeering::crd(), peering)),
        ("meshconfigs", definition(&MeshConfig::crd(), config)),
    ]
}

fn definition<T: serde::Serialize>(crd: &T, rules: Value) -> Value {
    let mut crd = serde_json::to_value(crd).expect("a definition is JSON");
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["x-kubernetes-validations"] = rules;
    without_foreign_formats(schema);
    crd
}

/// Kubernetes knows no unsigned formats, and says so to whoever installs them. Their bounds stand beside them.
fn without_foreign_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.remove("format");
            }
            fields.values_mut().for_each(without_foreign_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(without_foreign_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What Helm does with them: `docs/adr/2026-11-29-objects.md`.
    const HEAD: &str = "{{- /* Made of the Rust types by `cargo xtask crds`: not to be written by hand. */ -}}\n{{- if .Values.crds.install }}\n";
    const TAIL: &str = "{{- end }}\n";

    /// As it stands in the chart. YAML holds every JSON.
    fn template(definition: &Value) -> String {
        let mut definition = definition.clone();
        definition["metadata"]["annotations"] = json!({ "helm.sh/resource-policy": "keep" });
        definition["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "isthmus" });
        let text = serde_saphyr::to_string(&definition).expect("JSON is YAML");
        assert!(!text.contains("{{"), "Helm would read it");
        format!("{HEAD}{text}{TAIL}")
    }

    /// `cargo xtask crds` runs this with ISTHMUS_CRDS=write.
    #[test]
    fn the_charts_definitions_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/isthmus/templates/crds");
        for (name, definition) in definitions() {
            let path = folder.join(format!("{name}.yaml"));
            let wanted = template(&definition);
            if std::env::var("ISTHMUS_CRDS").is_ok_and(|what| what == "write") {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &wanted).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == wanted, "{} is another than the Rust types say: run `cargo xtask crds`", path.display());
        }
    }

    #[test]
    fn a_definition_says_who_it_is_and_knows_no_unsigned_format() {
        for (name, definition) in definitions() {
            assert_eq!(definition["metadata"]["name"], format!("{name}.{}", super::super::GROUP));
            assert_eq!(definition["spec"]["scope"], "Cluster");
            assert!(!definition.to_string().contains("\"uint"), "{definition}");
            assert!(definition["spec"]["versions"][0]["subresources"]["status"].is_object());
        }
    }
}
