//! The merged view, kind by kind.

use mesh_proto::v1;
use mesh_proto::v1::object::Kind;
use mesh_types::exchange::Rules;
use mesh_types::view::Object;
use mesh_types::{ClusterName, Exchange, ServiceName};

use super::AdminApi;
use crate::objects::ObjectKey;
use crate::view::health::Standing;

impl AdminApi {
    pub(super) fn services(&self, request: &v1::ListRequest, exchange: &Exchange) -> v1::ListServicesResponse {
        let errors = self.controller.export().errors;
        let rows = self.view.read(crate::view::View::service_rows);
        let wanted = rows
            .into_iter()
            .filter(|row| wants(request, &row.service.cluster, Some(row.service.name.namespace.as_str())));
        let services = wanted.map(|row| {
            let is_own = row.service.cluster == self.cluster;
            let error = errors.get(&ObjectKey::service(&row.service.name).to_string()).filter(|_| is_own);
            let rule = |rules: &Rules| if is_own { names(rules, &row.service.name) } else { None };
            v1::ServiceRow {
                export_to: rule(&exchange.export),
                import_from: rule(&exchange.import),
                selected: row.selected.iter().filter_map(|chosen| u32::try_from(chosen.index).ok()).collect(),
                weights: row.selected.iter().map(|chosen| u32::from(chosen.weight)).collect(),
                standings: row.standings.into_iter().map(standing).collect(),
                backends: row.backends.into_iter().filter_map(|b| backend(&Object::Backend(b))).collect(),
                service: service(&Object::Service(row.service)),
                error: error.cloned().or(row.error).unwrap_or_default(),
            }
        });
        v1::ListServicesResponse { services: services.collect() }
    }

    pub(super) fn endpoints(&self, request: &v1::ListRequest) -> v1::ListEndpointsResponse {
        let endpoints = self.select(|object| match object {
            Object::Ip(ip) if wants(request, &ip.cluster, ip.namespace.as_deref()) => match kind(object)? {
                Kind::Ip(ip) => Some(ip),
                _ => None,
            },
            _ => None,
        });
        v1::ListEndpointsResponse { endpoints }
    }

    pub(super) fn nodes(&self, request: &v1::ListRequest) -> v1::ListNodesResponse {
        let nodes = self.select(|object| match object {
            Object::Node(node) if wants(request, &node.cluster, None) => Some(node.into()),
            _ => None,
        });
        v1::ListNodesResponse { nodes }
    }

    pub(super) fn identities(&self, request: &v1::ListRequest) -> v1::ListIdentitiesResponse {
        let identities = self.select(|object| match object {
            Object::Identity(identity) => {
                let label = |key: &str| identity.labels.get(key).unwrap_or_default();
                let is_wanted = matches(&request.cluster, label(mesh_types::labels::POLICY_CLUSTER))
                    && matches(&request.namespace, label(mesh_types::labels::POD_NAMESPACE));
                match kind(object)? {
                    Kind::Identity(identity) if is_wanted => Some(identity),
                    _ => None,
                }
            }
            _ => None,
        });
        v1::ListIdentitiesResponse { identities }
    }

    fn select<T>(&self, pick: impl Fn(&Object) -> Option<T>) -> Vec<T> {
        self.view.read(|view| view.objects().filter_map(pick).collect())
    }
}

fn standing(standing: Standing) -> v1::ServiceStanding {
    let Standing { cluster, usage, since_unix_nanos, reason } = standing;
    v1::ServiceStanding { cluster: cluster.to_string(), state: usage.name().to_owned(), since_unix_nanos, reason }
}

fn kind(object: &Object) -> Option<Kind> {
    v1::Object::from(object).kind
}

fn names(rules: &Rules, service: &ServiceName) -> Option<v1::ClusterNames> {
    let clusters = rules.of_service(&service.namespace, &service.name)?;
    Some(v1::ClusterNames { names: clusters.iter().map(ToString::to_string).collect() })
}

fn service(object: &Object) -> Option<v1::Service> {
    match kind(object)? {
        Kind::Service(service) => Some(service),
        _ => None,
    }
}

fn backend(object: &Object) -> Option<v1::Backend> {
    match kind(object)? {
        Kind::Backend(backend) => Some(backend),
        _ => None,
    }
}

/// An empty wish is met by everything.
fn matches(wish: &str, value: &str) -> bool {
    wish.is_empty() || wish == value
}

fn wants(request: &v1::ListRequest, cluster: &ClusterName, namespace: Option<&str>) -> bool {
    matches(&request.cluster, cluster.as_str()) && namespace.is_none_or(|n| matches(&request.namespace, n))
}
