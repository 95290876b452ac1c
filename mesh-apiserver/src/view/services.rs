//! The view asked about Services: which backends take new connections here. For people; agents decide for themselves,
//! with the same function and their own paths.

use std::collections::BTreeSet;

use mesh_types::select::{Candidate, Consumer, select};
use mesh_types::view::{Key, Object, Service, ServiceBackend};
use mesh_types::{BackendState, ClusterName, ServiceName};

use super::View;

/// A Service as the own cluster uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub service: Service,
    /// All known backends of all clusters.
    pub backends: Vec<ServiceBackend>,
    /// Indices into `backends`.
    pub selected: Vec<usize>,
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
}

impl View {
    /// One row for each Service of each cluster.
    pub fn service_rows(&self) -> Vec<Row> {
        let services = self.objects().filter_map(|o| if let Object::Service(s) = o { Some(s) } else { None });
        services.map(|service| self.row(service)).collect()
    }

    /// Names of all Services, and of those that are global somewhere.
    pub fn service_names(&self) -> (BTreeSet<&ServiceName>, BTreeSet<&ServiceName>) {
        let services = || self.facts.values().filter_map(|o| if let Object::Service(s) = o { Some(s) } else { None });
        (services().map(|s| &s.name).collect(), services().filter(|s| s.global).map(|s| &s.name).collect())
    }

    /// The own cluster's settings for a name; `None` where only remote clusters have it.
    fn consumer(&self, name: &ServiceName) -> Consumer<'_> {
        let key = Key::Service { cluster: self.own.clone(), service: name.clone() };
        let local = match self.facts.get(&key) {
            Some(Object::Service(s)) => Some((s.global, s.affinity)),
            _ => None,
        };
        Consumer { cluster: &self.own, local }
    }

    fn row(&self, service: &Service) -> Row {
        let backends: Vec<ServiceBackend> = self.backends_of(&service.name).cloned().collect();
        let choices: Vec<Choice<'_>> = backends.iter().map(Choice).collect();
        let selected = select(self.consumer(&service.name), &choices);
        Row { service: service.clone(), backends, selected }
    }
}
