//! What Namespaces and Services say about which clusters may have them, and whose they take.

use std::collections::BTreeMap;

use mesh_types::exchange::{EXPORT_TO, Scope, Terms};
use mesh_types::{ServiceName, exchange};

use crate::objects::{Kind, Namespace, ObjectKey, Service};

/// What was not understood, by object. The rules themselves are among the desired facts.
#[derive(Default)]
pub(super) struct Errors(BTreeMap<ObjectKey, String>);

impl Errors {
    /// A Namespace always has terms while it exists, empty ones too: that it is gone is another thing than that it has no
    /// rules.
    pub(super) fn of_namespace(&mut self, namespace: &Namespace) -> Terms {
        let meta = &namespace.metadata;
        if namespace.is_unreadable {
            // The source says why.
            self.0.remove(&key_of_namespace(&meta.name));
            return Terms::nobody();
        }
        self.read(key_of_namespace(&meta.name), &meta.annotations)
    }

    pub(super) fn of_service(&mut self, service: &Service) -> Option<Terms> {
        let meta = &service.metadata;
        let key = ObjectKey::service(&ServiceName::new(meta.namespace.clone(), meta.name.clone()));
        Some(self.read(key, &meta.annotations)).filter(|terms| *terms != Terms::default())
    }

    pub(super) fn forget(&mut self, scope: &Scope) {
        self.0.remove(&match scope {
            Scope::Namespace(name) => key_of_namespace(name),
            Scope::Service(service) => ObjectKey::service(service),
        });
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&ObjectKey, &String)> {
        self.0.iter()
    }

    fn read(&mut self, key: ObjectKey, annotations: &BTreeMap<String, String>) -> Terms {
        let (terms, errors) = Terms::from_annotations(annotations);
        let texts: Vec<String> = errors.iter().map(explained).collect();
        if texts.is_empty() {
            self.0.remove(&key);
        } else {
            self.0.insert(key, texts.join("; "));
        }
        terms
    }
}

fn explained(error: &exchange::Error) -> String {
    let effect = if error.annotation() == EXPORT_TO {
        "nothing of it is exported"
    } else {
        "no Service of another cluster is taken for it"
    };
    format!("{error} (write names of clusters with commas between, or none); until then {effect}")
}

fn key_of_namespace(name: &str) -> ObjectKey {
    ObjectKey { kind: Kind::Namespace, namespace: String::new(), name: name.to_owned() }
}
