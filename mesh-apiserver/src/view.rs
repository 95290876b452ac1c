//! The merged view: what the own cluster's agents need of their own and all joined clusters.
//!
//! A pure, incremental function of the store: events go in, the changes of the view come out. No clock, no I/O; [`feed`]
//! follows the store and hands the result to many subscribers.
//!
//! ```text
//!  isthmus/v1/local/..       own Services and backends --+
//!  cilium/state/..           own nodes, addresses, numbers +--> facts --(withdrawn?)--> objects --> Change
//!  cilium/cache/..           peers' facts ---------------+
//!  isthmus/v1/{cluster,peers/..}  clusters --------------+
//!  isthmus/v1/mirror/..      withdrawn, the peers' clocks
//! ```

mod decode;
mod encode;
pub mod feed;
mod load;
mod ring;
pub mod services;
mod snapshot;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use mesh_store::mvcc::{Event, EventKind};
use mesh_types::ClusterName;
use mesh_types::view::{Key, Object, ServiceBackend};

pub use decode::Error;
use decode::Fact;
pub use feed::{Feed, Handle};
pub use subscription::Subscription;

/// # Invariants
/// - An object is visible unless it is a backend of a withdrawn cluster. Addresses, numbers and nodes of a withdrawn
///   cluster stay: connections that still work are not cut, and policy keeps its meaning.
/// - What a change says is exactly the difference between the visible objects before and after it.
#[derive(Clone)]
pub struct View {
    own: ClusterName,
    facts: BTreeMap<Key, Object>,
    withdrawn: BTreeSet<ClusterName>,
    clocks: BTreeMap<ClusterName, u64>,
}

/// What one batch of events did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// In the order in which they may be written: what is referred to comes first.
    pub upserts: Vec<Object>,
    /// In the order in which they may be removed: what refers to others comes first.
    pub deletes: Vec<Key>,
    /// When the sources wrote what this change carries.
    pub origin_times: BTreeMap<ClusterName, u64>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }
}

impl View {
    pub fn new(own: ClusterName) -> Self {
        let (facts, withdrawn, clocks) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { own, facts, withdrawn, clocks }
    }

    pub fn own(&self) -> &ClusterName {
        &self.own
    }

    /// Takes in events of the store, in order. Values that cannot be read count as absent and are returned.
    pub fn apply<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> (Change, Vec<Error>) {
        let kvs = events.into_iter().map(|event| {
            let value = (event.kind == EventKind::Put).then_some(&event.kv.value);
            (&event.kv.key, value)
        });
        self.apply_values(kvs)
    }

    /// The same for keys and their values; `None` for a key that is gone.
    pub fn apply_values<'a>(
        &mut self,
        kvs: impl IntoIterator<Item = (&'a Bytes, Option<&'a Bytes>)>,
    ) -> (Change, Vec<Error>) {
        let mut touched: BTreeMap<Key, Option<Object>> = BTreeMap::new();
        let mut origin_times = BTreeMap::new();
        let mut errors = Vec::new();
        for (key, value) in kvs {
            let (fact, error) = decode::read(&self.own, key, value);
            errors.extend(error);
            match fact {
                None => {}
                Some(Fact::Object(key, object)) => self.set(key, object.map(|o| *o), &mut touched),
                Some(Fact::RemoteService { cluster, name, value }) => {
                    let first =
                        Key::Backend { cluster: cluster.clone(), service: name.clone(), address: decode::FIRST };
                    let last = Key::Backend { cluster: cluster.clone(), service: name.clone(), address: decode::LAST };
                    let known: Vec<Key> = self.facts.range(first..=last).map(|(key, _)| key.clone()).collect();
                    let (service, backends) = value.map_or((None, Vec::new()), |v| (Some(v.0), v.1));
                    let mut backends: BTreeMap<Key, Object> =
                        backends.into_iter().map(Object::Backend).map(|o| (o.key(), o)).collect();
                    self.set(Key::Service { cluster, service: name }, service.map(Object::Service), &mut touched);
                    for key in known {
                        let backend = backends.remove(&key);
                        self.set(key, backend, &mut touched);
                    }
                    for (key, backend) in backends {
                        self.set(key, Some(backend), &mut touched);
                    }
                }
                Some(Fact::Mirror { cluster, is_withdrawn, clock }) => {
                    self.withdraw(&cluster, is_withdrawn, &mut touched);
                    self.note_clock(cluster, clock, &mut origin_times);
                }
                Some(Fact::Clock(clock)) => self.note_clock(self.own.clone(), clock, &mut origin_times),
            }
        }
        (self.difference(touched, origin_times), errors)
    }

    /// Everything visible.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.facts.iter().filter(|(key, _)| self.is_visible(key)).map(|(_, object)| object)
    }

    /// Everything visible behind a key, or from the first one on, in the order of keys.
    pub(super) fn objects_after(&self, key: Option<&Key>) -> impl Iterator<Item = (&Key, &Object)> {
        let after = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.facts.range((after, Bound::Unbounded)).filter(|(key, _)| self.is_visible(key))
    }

    /// Everything known, backends of withdrawn clusters included.
    pub fn facts(&self) -> &BTreeMap<Key, Object> {
        &self.facts
    }

    pub fn is_withdrawn(&self, cluster: &ClusterName) -> bool {
        self.withdrawn.contains(cluster)
    }

    /// What turns `earlier` into this view.
    pub fn since(&self, earlier: &Self) -> Change {
        let visible = |view: &Self, key: &Key| view.facts.get(key).filter(|_| view.is_visible(key)).cloned();
        let mut touched = BTreeMap::new();
        for key in earlier.facts.keys().chain(self.facts.keys()) {
            let before = visible(earlier, key);
            if before != visible(self, key) {
                touched.insert(key.clone(), before);
            }
        }
        self.difference(touched, BTreeMap::new())
    }

    fn is_visible(&self, key: &Key) -> bool {
        match key {
            Key::Backend { cluster, .. } => !self.withdrawn.contains(cluster),
            _ => true,
        }
    }

    /// Remembers in `touched` what was visible of a key before this batch.
    fn set(&mut self, key: Key, object: Option<Object>, touched: &mut BTreeMap<Key, Option<Object>>) {
        let visible_before = self.facts.get(&key).filter(|_| self.is_visible(&key)).cloned();
        match object {
            Some(object) => self.facts.insert(key.clone(), object),
            None => self.facts.remove(&key),
        };
        touched.entry(key).or_insert(visible_before);
    }

    fn withdraw(&mut self, cluster: &ClusterName, withdrawn: bool, touched: &mut BTreeMap<Key, Option<Object>>) {
        if self.withdrawn.contains(cluster) == withdrawn {
            return;
        }
        let backends =
            self.facts.iter().filter(|(key, _)| matches!(key, Key::Backend { cluster: c, .. } if c == cluster));
        for (key, object) in backends {
            let visible_before = (!self.withdrawn.contains(cluster)).then(|| object.clone());
            touched.entry(key.clone()).or_insert(visible_before);
        }
        if withdrawn {
            self.withdrawn.insert(cluster.clone());
        } else {
            self.withdrawn.remove(cluster);
        }
    }

    fn note_clock(&mut self, cluster: ClusterName, clock: u64, origin_times: &mut BTreeMap<ClusterName, u64>) {
        if clock != 0 && self.clocks.insert(cluster.clone(), clock) != Some(clock) {
            origin_times.insert(cluster, clock);
        }
    }

    fn difference(&self, touched: BTreeMap<Key, Option<Object>>, origin_times: BTreeMap<ClusterName, u64>) -> Change {
        let mut change = Change { origin_times, ..Change::default() };
        for (key, before) in touched {
            let now = self.facts.get(&key).filter(|_| self.is_visible(&key));
            match (before, now) {
                (before, Some(now)) if before.as_ref() != Some(now) => change.upserts.push(now.clone()),
                (Some(_), None) => change.deletes.push(key),
                _ => {}
            }
        }
        change.deletes.reverse();
        change
    }

    /// All backends of all clusters behind a Service's name, those of withdrawn clusters left out.
    fn backends_of<'a>(&'a self, name: &'a mesh_types::ServiceName) -> impl Iterator<Item = &'a ServiceBackend> {
        // Clusters come first in the order of keys.
        let clusters = self.facts.keys().map_while(|key| match key {
            Key::Cluster(name) => Some(name),
            _ => None,
        });
        clusters.filter(|c| !self.withdrawn.contains(*c)).flat_map(move |cluster| {
            let key = |address| Key::Backend { cluster: cluster.clone(), service: name.clone(), address };
            self.facts.range(key(decode::FIRST)..=key(decode::LAST)).filter_map(|(_, object)| match object {
                Object::Backend(backend) => Some(backend),
                _ => None,
            })
        })
    }
}

#[cfg(test)]
mod tests;
