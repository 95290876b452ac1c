//! What the joined clusters export for the cluster set, as it is mirrored into the store, and which of them count. Pure.
//!
//! Backends of a Service of the cluster set are exchanged as those of a global Service of the derived name, which each cluster
//! that exports it has. Only such Services and slices are kept here.

use std::collections::{BTreeMap, BTreeSet};

use federation::Health;
use federation::contract::keys::{self, CacheKey};
use federation::contract::{EndpointSliceValue, Error, Resource, ServiceExportValue, ServiceValue};
use mesh_types::{ClusterName, ServiceName, WithdrawAfter};

use super::names::{self, DERIVED};

/// Keys that are read; all values of others are passed over.
pub(super) const PREFIXES: [&str; 7] = [
    "cilium/cache/serviceexports/",
    "cilium/cache/services/",
    "cilium/cache/endpointslices/",
    keys::CLUSTER_CONFIGS,
    keys::SYNCED,
    keys::PEERS,
    keys::HEALTH,
];

#[derive(Debug, Default)]
pub(super) struct Remote {
    exports: BTreeMap<ServiceName, BTreeMap<ClusterName, ServiceExportValue>>,
    /// By the derived name.
    services: BTreeMap<ServiceName, BTreeMap<ClusterName, ServiceValue>>,
    slices: BTreeMap<(ClusterName, String), EndpointSliceValue>,
    by_service: BTreeMap<ServiceName, BTreeSet<(ClusterName, String)>>,
    /// From a derived name to the Service.
    origins: BTreeMap<ServiceName, ServiceName>,
    peers: BTreeSet<ClusterName>,
    configured: BTreeSet<ClusterName>,
    /// All slices of these are mirrored.
    complete: BTreeSet<ClusterName>,
    healths: BTreeMap<ClusterName, Health>,
}

/// What a change concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touched {
    Nothing,
    One(ServiceName),
    /// A cluster came, went, or is judged otherwise.
    All,
}

impl Remote {
    /// Takes in a key of the store; `None`: it is gone. A value that cannot be read counts as absent.
    pub(super) fn note(&mut self, key: &[u8], value: Option<&[u8]>) -> (Touched, Option<Error>) {
        let Ok(key) = std::str::from_utf8(key) else { return (Touched::Nothing, None) };
        match self.take(key, value) {
            Ok(touched) => (touched, None),
            Err(error) => (self.take(key, None).unwrap_or(Touched::Nothing), Some(error)),
        }
    }

    /// The exports of a name by the clusters that are joined.
    pub(super) fn exports(&self, name: &ServiceName) -> impl Iterator<Item = (&ClusterName, &ServiceExportValue)> {
        self.exports.get(name).into_iter().flatten().filter(|(cluster, _)| self.counts(cluster))
    }

    /// All names that some cluster exports, in one namespace or in all.
    pub(super) fn names<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = &'a ServiceName> {
        self.exports.keys().filter(move |name| namespace.is_none_or(|namespace| name.namespace == namespace))
    }

    /// A cluster's backends of a derived Service, as slices with names. Slices count once all are mirrored: until then, and
    /// where a cluster exports none, the Service's own value does.
    pub(super) fn backends(&self, derived: &ServiceName, cluster: &ClusterName) -> Vec<(String, EndpointSliceValue)> {
        let own: Vec<_> = self
            .by_service
            .get(derived)
            .into_iter()
            .flatten()
            .filter(|(of, _)| of == cluster)
            .filter_map(|key| Some((key.1.clone(), self.slices.get(key)?.clone())))
            .collect();
        if self.complete.contains(cluster) && !own.is_empty() {
            return own;
        }
        let value = self.services.get(derived).and_then(|of| of.get(cluster));
        value.map(super::slices::of_service).unwrap_or_default()
    }

    /// Whether a Service with this setting of its own does not use the cluster's backends now.
    pub(super) fn is_withdrawn(&self, cluster: &ClusterName, setting: Option<WithdrawAfter>) -> bool {
        self.healths.get(cluster).is_some_and(|health| health.withdraws(setting))
    }

    /// A name that the own cluster exports: what is known of its derived Service belongs to it.
    pub(super) fn remember(&mut self, name: &ServiceName) {
        self.origins.insert(names::derived(name), name.clone());
    }

    /// Nobody exports the name any more.
    pub(super) fn forget(&mut self, name: &ServiceName) {
        if !self.exports.contains_key(name) {
            self.origins.remove(&names::derived(name));
        }
    }

    fn counts(&self, cluster: &ClusterName) -> bool {
        self.peers.contains(cluster) && self.configured.contains(cluster)
    }

    fn take(&mut self, key: &str, value: Option<&[u8]>) -> Result<Touched, Error> {
        if let Some(CacheKey { resource, cluster, rest }) = CacheKey::parse(key) {
            return self.take_cached(resource, cluster, rest, value);
        }
        let set = if let Some(cluster) = keys::cached_slices_canary(key) {
            Some((cluster, &mut self.complete))
        } else if let Some(name) = key.strip_prefix(keys::CLUSTER_CONFIGS) {
            ClusterName::new(name).ok().map(|cluster| (cluster, &mut self.configured))
        } else if let Some(name) = key.strip_prefix(keys::PEERS) {
            ClusterName::new(name).ok().map(|cluster| (cluster, &mut self.peers))
        } else {
            None
        };
        if let Some((cluster, set)) = set {
            let is_news = if value.is_some() { set.insert(cluster) } else { set.remove(&cluster) };
            return Ok(if is_news { Touched::All } else { Touched::Nothing });
        }
        let Some(cluster) = key.strip_prefix(keys::HEALTH).and_then(|name| ClusterName::new(name).ok()) else {
            return Ok(Touched::Nothing);
        };
        // What cannot be read withdraws nothing; the view says that it cannot be.
        let health = value.and_then(|value| Health::decode(value).ok());
        let before = match health {
            Some(health) => self.healths.insert(cluster.clone(), health),
            None => self.healths.remove(&cluster),
        };
        Ok(if before.as_ref() == self.healths.get(&cluster) { Touched::Nothing } else { Touched::All })
    }

    fn take_cached(
        &mut self,
        resource: Resource,
        cluster: ClusterName,
        rest: &str,
        value: Option<&[u8]>,
    ) -> Result<Touched, Error> {
        let Some((namespace, name)) = rest.split_once('/') else { return Ok(Touched::Nothing) };
        let name = ServiceName::new(namespace, name);
        match resource {
            Resource::ServiceExports => {
                let value = value.map(ServiceExportValue::decode).transpose()?;
                set(&mut self.exports, &name, cluster, value);
                if self.exports.contains_key(&name) {
                    self.remember(&name);
                }
                Ok(Touched::One(name))
            }
            Resource::Services if name.name.starts_with(DERIVED) => {
                let value = value.map(ServiceValue::decode).transpose()?;
                set(&mut self.services, &name, cluster, value);
                Ok(self.origin(&name))
            }
            Resource::EndpointSlices => {
                let value = value.map(EndpointSliceValue::decode).transpose()?;
                let value = value.filter(|value| value.service().is_some_and(|s| s.name.starts_with(DERIVED)));
                let key = (cluster, rest.to_owned());
                let before = self.slices.remove(&key).and_then(|slice| slice.service());
                if let Some(service) = &before
                    && let Some(known) = self.by_service.get_mut(service)
                {
                    known.remove(&key);
                    if known.is_empty() {
                        self.by_service.remove(service);
                    }
                }
                let Some(value) = value else {
                    return Ok(before.map_or(Touched::Nothing, |service| self.origin(&service)));
                };
                let now = value.service();
                if let Some(service) = &now {
                    self.by_service.entry(service.clone()).or_default().insert(key.clone());
                    self.slices.insert(key, value);
                }
                // A slice stays with its Service; one that does not is seen again with all others.
                Ok(match (before, now) {
                    (Some(before), Some(now)) if before != now => Touched::All,
                    (_, now) => now.map_or(Touched::Nothing, |service| self.origin(&service)),
                })
            }
            _ => Ok(Touched::Nothing),
        }
    }

    fn origin(&self, derived: &ServiceName) -> Touched {
        self.origins.get(derived).cloned().map_or(Touched::Nothing, Touched::One)
    }
}

fn set<V>(
    map: &mut BTreeMap<ServiceName, BTreeMap<ClusterName, V>>,
    name: &ServiceName,
    cluster: ClusterName,
    value: Option<V>,
) {
    let of_name = map.entry(name.clone()).or_default();
    match value {
        Some(value) => of_name.insert(cluster, value),
        None => of_name.remove(&cluster),
    };
    if of_name.is_empty() {
        map.remove(name);
    }
}
