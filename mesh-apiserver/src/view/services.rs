//! The view asked about Services: which backends take new connections here. For people; agents decide for themselves,
//! with the same function and their own paths.

use std::collections::{BTreeMap, BTreeSet};

use mesh_types::preference::{FAILOVER, WEIGHTS};
use mesh_types::select::{Candidate, Chosen, Consumer, select};
use mesh_types::view::{Key, Object, Service, ServiceBackend};
use mesh_types::{BackendState, ClusterName, ServiceName};

use super::View;
use super::health::Standing;

/// A Service as the own cluster uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub service: Service,
    /// All known backends of all clusters.
    pub backends: Vec<ServiceBackend>,
    /// Those that take new connections, by index into `backends`.
    pub selected: Vec<Chosen>,
    /// What is wrong with the settings, of the own cluster's Service.
    pub error: Option<String>,
    /// How it uses each remote cluster; empty for a Service of a remote cluster that the own cluster has as well.
    pub standings: Vec<Standing>,
}

struct Choice<'a>(&'a ServiceBackend);

impl Candidate for Choice<'_> {
    fn cluster(&self) -> &ClusterName {
        &self.0.cluster
    }
    fn state(&self) -> BackendState {
        self.0.state
    }
    fn reachable(&self) -> bool {
        true
    }
    fn weight(&self) -> u16 {
        self.0.weight
    }
}

impl View {
    /// One row for each Service of each cluster.
    pub fn service_rows(&self) -> Vec<Row> {
        self.services().map(|service| self.row(service)).collect()
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.objects().filter_map(|o| if let Object::Service(s) = o { Some(s) } else { None })
    }

    /// Names of all Services, and of those that are global somewhere.
    pub fn service_names(&self) -> (BTreeSet<&ServiceName>, BTreeSet<&ServiceName>) {
        let names = self.services().map(|service| &service.name).collect();
        (names, self.services().filter(|service| service.global).map(|service| &service.name).collect())
    }

    /// The own cluster's settings for a name; `None` where only remote clusters have it.
    fn consumer(&self, name: &ServiceName) -> Consumer<'_> {
        let key = Key::Service { cluster: self.own.clone(), service: name.clone() };
        let local = match self.facts.get(&key) {
            Some(Object::Service(s)) => Some((s.global, &s.prefers)),
            _ => None,
        };
        Consumer { cluster: &self.own, local }
    }

    fn row(&self, service: &Service) -> Row {
        let backends: Vec<ServiceBackend> = self.backends_of(&service.name).cloned().collect();
        let choices: Vec<Choice<'_>> = backends.iter().map(Choice).collect();
        let selected = select(self.consumer(&service.name), &choices);
        let error = if service.cluster == self.own { self.unknown_clusters(service) } else { None };
        // The own cluster's Service decides for all of its name.
        let is_decisive = service.cluster == self.own || self.consumer(&service.name).local.is_none();
        let standings = if is_decisive { self.standings(&service.name) } else { Vec::new() };
        Row { service: service.clone(), backends, selected, error, standings }
    }

    /// What is wrong with the own cluster's Services that only the whole mesh can tell: settings that name a cluster which
    /// is not joined. They count all the same, since it may be joined later; until then it is passed over.
    pub fn service_errors(&self) -> BTreeMap<ServiceName, String> {
        let own = self.services().filter(|service| service.cluster == self.own);
        own.filter_map(|service| Some((service.name.clone(), self.unknown_clusters(service)?))).collect()
    }

    fn unknown_clusters(&self, service: &Service) -> Option<String> {
        let unknown: Vec<&ClusterName> =
            service.prefers.clusters().into_iter().filter(|name| !self.has_cluster(name)).collect();
        if unknown.is_empty() {
            return None;
        }
        let settings = if service.prefers.failover.is_empty() { WEIGHTS } else { FAILOVER };
        Some(passed_over(settings, &unknown))
    }

    /// Whether it is the own cluster or a joined one.
    pub fn has_cluster(&self, name: &ClusterName) -> bool {
        self.facts.contains_key(&Key::Cluster(name.clone()))
    }
}

/// What is said of an annotation that names clusters which are not joined.
pub fn passed_over(annotation: &str, unknown: &[&ClusterName]) -> String {
    let list = unknown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "annotation {annotation} names {list}, which is not a cluster of this mesh: it is passed over until it is joined \
         (`meshctl peers` lists the names)"
    )
}
