//! Applying what Helm rendered elsewhere: each document by server-side apply, as one owner, definitions and accounts first.

use std::path::Path;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::Cluster;
use crate::output;

const OWNER: &str = "meshctl";
/// What others name has to be there before them.
const FIRST: [&str; 7] = [
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
];

/// Applies every object of a file; hooks are Helm's own, and are left out by name.
pub(super) async fn apply(cluster: &Cluster, file: &Path, namespace: &str, is_dry: bool) -> Result<(), Failure> {
    let wrong = |text: String| Failure::said(Exit::Usage, file.display().to_string(), text);
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut objects = read(&text).map_err(wrong)?;
    objects.sort_by_key(|object| FIRST.iter().position(|kind| *kind == kind_of(object)).unwrap_or(FIRST.len()));
    let mut params = PatchParams::apply(OWNER).force();
    params.dry_run = is_dry;
    for object in &objects {
        let name = format!("{}/{}", kind_of(object), object.metadata.name.as_deref().unwrap_or_default());
        if is_hook(object) {
            output::note(format!("{name}: left out, it is a step of `helm uninstall`; see docs/guide/uninstall.md"));
            continue;
        }
        one(cluster, object, namespace, &params).await.map_err(|error| error.failure(&cluster.context))?;
        output::note(format!("{name}: applied{}", if is_dry { " (dry run)" } else { "" }));
    }
    Ok(())
}

async fn one(
    cluster: &Cluster,
    object: &DynamicObject,
    namespace: &str,
    params: &PatchParams,
) -> Result<(), crate::kubernetes::Error> {
    let types = object.types.clone().unwrap_or_default();
    let what = types.kind.clone();
    let kind = GroupVersionKind::try_from(&types)
        .map_err(|error| crate::kubernetes::Error::Mesh(format!("{what}: {error}")))?;
    let (resource, capabilities) = cluster.ask("get", &what, discovery::pinned_kind(&cluster.client, &kind)).await?;
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client, &resource),
        Scope::Namespaced => {
            let place = object.metadata.namespace.as_deref().unwrap_or(namespace);
            Api::namespaced_with(client, place, &resource)
        }
    };
    let name = object.metadata.name.clone().unwrap_or_default();
    cluster.ask("patch", &what, api.patch(&name, params, &Patch::Apply(object))).await.map(drop)
}

/// All documents, or why one of them is no object.
fn read(text: &str) -> Result<Vec<DynamicObject>, String> {
    let documents: Vec<Option<serde_json::Value>> =
        serde_saphyr::from_multiple(text).map_err(|_shows_lines| "it is not YAML".to_owned())?;
    let mut objects = Vec::new();
    for (i, document) in documents.into_iter().flatten().enumerate() {
        let object: DynamicObject =
            serde_json::from_value(document).map_err(|error| format!("document {}: {error}", i + 1))?;
        if object.types.is_none() || object.metadata.name.is_none() {
            return Err(format!("document {} has no kind or no name: it is no object of Kubernetes", i + 1));
        }
        objects.push(object);
    }
    if objects.is_empty() { Err("there is no object in it".to_owned()) } else { Ok(objects) }
}

fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

fn is_hook(object: &DynamicObject) -> bool {
    object.metadata.annotations.as_ref().is_some_and(|notes| notes.contains_key("helm.sh/hook"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_one_by_one_and_what_is_no_object_is_named() {
        let text = "---\n# Source: x\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\n\n---\napiVersion: v1\nkind: \
                    Pod\nmetadata: {name: p, annotations: {helm.sh/hook: post-delete}}\n";
        let objects = read(text).unwrap();
        assert_eq!(objects.iter().map(kind_of).collect::<Vec<_>>(), ["Service", "Pod"]);
        assert!(!is_hook(&objects[0]) && is_hook(&objects[1]));
        assert!(read("a: b\n").unwrap_err().contains("document 1"));
        assert!(read("# nothing\n").is_err());
    }
}
