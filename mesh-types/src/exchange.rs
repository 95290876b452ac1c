//! Who may have what: to which clusters a Namespace or a Service is exported, and from which ones it is imported.
//!
//! It owns the syntax of both annotations and which of them counts. Where the rules hold is the exporter's and the
//! session's. `None` for a set of clusters always means: no rule, every joined cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, ServiceName};

/// `cluster-b,cluster-c`: who may have it; empty or `none`: nobody.
pub const EXPORT_TO: &str = "mesh.isthmus.io/export-to";
/// `cluster-b`: whose Service of this name, or whose Services of this namespace, are taken; empty or `none`: nobody's.
pub const IMPORT_FROM: &str = "mesh.isthmus.io/import-from";
/// The word for no cluster at all.
const NOBODY: &str = "none";

/// What carries a rule. A Service's own counts before its Namespace's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Namespace(String),
    Service(ServiceName),
}

impl Scope {
    pub fn namespace(&self) -> &str {
        match self {
            Self::Namespace(namespace) => namespace,
            Self::Service(service) => &service.namespace,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(namespace) => write!(f, "Namespace {namespace}"),
            Self::Service(service) => write!(f, "Service {service}"),
        }
    }
}

/// What one object says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    pub export_to: Option<BTreeSet<ClusterName>>,
    pub import_from: Option<BTreeSet<ClusterName>>,
}

/// A list of clusters that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("annotation {annotation}: {source}")]
    Cluster { annotation: &'static str, source: crate::cluster::Error },
    #[error("annotation {annotation} names {cluster} twice")]
    Twice { annotation: &'static str, cluster: ClusterName },
    #[error("annotation {annotation}: {NOBODY:?} stands alone: leave it out, or the names beside it")]
    NobodyElse { annotation: &'static str },
}

impl Error {
    /// The annotation that was not understood.
    pub const fn annotation(&self) -> &'static str {
        match self {
            Self::Cluster { annotation, .. } | Self::Twice { annotation, .. } | Self::NobodyElse { annotation } => {
                annotation
            }
        }
    }
}

impl Terms {
    /// Reads the annotations. One that is not understood counts as `none`, beside an error that names it: the wish was to
    /// keep something from somebody.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> (Self, Vec<Error>) {
        let mut errors = Vec::new();
        let mut read = |annotation: &'static str| {
            let text = annotations.get(annotation)?;
            Some(clusters(annotation, text).unwrap_or_else(|error| {
                errors.push(error);
                BTreeSet::new()
            }))
        };
        let terms = Self { export_to: read(EXPORT_TO), import_from: read(IMPORT_FROM) };
        (terms, errors)
    }

    /// Nothing out, and nothing in: of an object that could not be read.
    pub fn nobody() -> Self {
        Self { export_to: Some(BTreeSet::new()), import_from: Some(BTreeSet::new()) }
    }
}

fn clusters(annotation: &'static str, text: &str) -> Result<BTreeSet<ClusterName>, Error> {
    let text = text.trim();
    if text.is_empty() || text == NOBODY {
        return Ok(BTreeSet::new());
    }
    let mut found = BTreeSet::new();
    for name in text.split(',').map(str::trim) {
        if name == NOBODY {
            return Err(Error::NobodyElse { annotation });
        }
        let cluster = ClusterName::new(name).map_err(|source| Error::Cluster { annotation, source })?;
        if !found.insert(cluster.clone()) {
            return Err(Error::Twice { annotation, cluster });
        }
    }
    Ok(found)
}

/// The rules of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    namespaces: BTreeMap<String, BTreeSet<ClusterName>>,
    /// By namespace, then by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    services: BTreeMap<String, BTreeMap<String, BTreeSet<ClusterName>>>,
}

impl Rules {
    /// The clusters that something of this scope is for; `None`: every joined one.
    pub fn of(&self, scope: &Scope) -> Option<&BTreeSet<ClusterName>> {
        match scope {
            Scope::Namespace(namespace) => self.namespaces.get(namespace),
            Scope::Service(service) => self.of_service(&service.namespace, &service.name),
        }
    }

    pub fn of_service(&self, namespace: &str, name: &str) -> Option<&BTreeSet<ClusterName>> {
        let own = self.services.get(namespace).and_then(|services| services.get(name));
        own.or_else(|| self.namespaces.get(namespace))
    }

    /// True when that was news.
    pub fn set(&mut self, scope: &Scope, clusters: Option<BTreeSet<ClusterName>>) -> bool {
        match scope {
            Scope::Namespace(namespace) => set(&mut self.namespaces, namespace, clusters),
            Scope::Service(ServiceName { namespace, name }) => {
                let services = self.services.entry(namespace.clone()).or_default();
                let is_news = set(services, name, clusters);
                if services.is_empty() {
                    self.services.remove(namespace);
                }
                is_news
            }
        }
    }

    /// Namespaces with a rule.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// Every rule, with what carries it.
    pub fn all(&self) -> impl Iterator<Item = (Scope, &BTreeSet<ClusterName>)> {
        let namespaces = self.namespaces.iter().map(|(name, clusters)| (Scope::Namespace(name.clone()), clusters));
        let services = self.services.iter().flat_map(|(namespace, services)| {
            services.iter().map(move |(name, clusters)| {
                (Scope::Service(ServiceName::new(namespace.clone(), name.clone())), clusters)
            })
        });
        namespaces.chain(services)
    }

    /// The same as one cluster meets them: may it, or may it not. Rules of two moments that are equal for a cluster change
    /// nothing for it.
    pub fn towards(&self, cluster: &ClusterName) -> Towards {
        Towards(self.all().map(|(scope, clusters)| (scope, clusters.contains(cluster))).collect())
    }
}

fn set(
    rules: &mut BTreeMap<String, BTreeSet<ClusterName>>,
    name: &str,
    clusters: Option<BTreeSet<ClusterName>>,
) -> bool {
    if rules.get(name) == clusters.as_ref() {
        return false;
    }
    match clusters {
        Some(clusters) => rules.insert(name.to_owned(), clusters),
        None => rules.remove(name),
    };
    true
}

/// The rules of one direction as one cluster meets them. Nothing in it: that cluster meets none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Towards(BTreeMap<Scope, bool>);

impl Towards {
    pub fn admits(&self, service: &ServiceName) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let own = self.0.get(&Scope::Service(service.clone()));
        let counts = own.or_else(|| self.0.get(&Scope::Namespace(service.namespace.clone())));
        counts.copied().unwrap_or(true)
    }
}

/// Both directions, as the store keeps them: what every replica, session and status needs to know of the objects' rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exchange {
    pub export: Rules,
    pub import: Rules,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<ClusterName> {
        list.iter().map(|name| ClusterName::new(*name).unwrap()).collect()
    }

    fn read(text: &str) -> (Option<BTreeSet<ClusterName>>, Vec<String>) {
        let annotations = BTreeMap::from([(EXPORT_TO.to_owned(), text.to_owned())]);
        let (terms, errors) = Terms::from_annotations(&annotations);
        assert_eq!(terms.import_from, None);
        (terms.export_to, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_read_and_nothing_means_nobody() {
        assert_eq!(read(" cluster-b, c "), (Some(names(&["cluster-b", "c"])), vec![]));
        for nobody in ["", "  ", "none", " none "] {
            assert_eq!(read(nobody), (Some(names(&[])), vec![]), "{nobody:?}");
        }
        assert_eq!(Terms::from_annotations(&BTreeMap::new()), (Terms::default(), vec![]));
    }

    #[test]
    fn what_is_not_understood_is_for_nobody_and_says_why() {
        let table = [
            ("cluster-b,", "annotation mesh.isthmus.io/export-to: cluster name \"\" is not valid"),
            ("*", "annotation mesh.isthmus.io/export-to: cluster name \"*\" is not valid"),
            ("cluster_b,c", "annotation mesh.isthmus.io/export-to: cluster name \"cluster_b\" is not valid"),
            ("b,c,b", "annotation mesh.isthmus.io/export-to names b twice"),
            ("b,none", "annotation mesh.isthmus.io/export-to: \"none\" stands alone"),
        ];
        for (text, want) in table {
            let (clusters, errors) = read(text);
            assert_eq!(clusters, Some(names(&[])), "{text}");
            assert!(errors.len() == 1 && errors[0].contains(want), "{errors:?}");
        }
    }

    #[test]
    fn a_services_own_rule_counts_before_its_namespaces() {
        let mut rules = Rules::default();
        let (shop, cart) = (Scope::Namespace("shop".into()), Scope::Service(ServiceName::new("shop", "cart")));
        assert!(rules.set(&shop, Some(names(&["b"]))) && !rules.set(&shop, Some(names(&["b"]))));
        assert_eq!(rules.of(&cart), Some(&names(&["b"])));
        rules.set(&cart, Some(names(&["c"])));
        assert_eq!(rules.of(&cart), Some(&names(&["c"])));
        assert_eq!(rules.of_service("shop", "pay"), Some(&names(&["b"])));
        assert_eq!(rules.of_service("other", "cart"), None);
        let b = rules.towards(&ClusterName::new("b").unwrap());
        let admitted = [("shop", "cart"), ("shop", "pay"), ("other", "cart")];
        assert_eq!(admitted.map(|(namespace, name)| b.admits(&ServiceName::new(namespace, name))), [false, true, true]);
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(text, r#"{"namespaces":{"shop":["b"]},"services":{"shop":{"cart":["c"]}}}"#);
        assert_eq!(serde_json::from_str::<Rules>(&text).unwrap(), rules);
        assert!(rules.set(&cart, None) && rules.set(&shop, None));
        assert_eq!(rules, Rules::default());
        assert_eq!(rules.towards(&ClusterName::new("b").unwrap()), Towards::default());
    }
}
