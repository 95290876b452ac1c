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
//!  cilium/cluster-config/..  whose facts are to be shown
//!  isthmus/v1/mirror/..      the peers' clocks
//!  isthmus/v1/health/..      the verdicts on peers: which Services withdraw their backends
//! ```

mod decode;
mod encode;
pub mod feed;
pub mod health;
mod joined;
mod load;
mod ring;
pub mod services;
mod slices;
mod snapshot;
mod subscription;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use federation::Health;
use mesh_store::mvcc::{Event, EventKind};
use mesh_types::ClusterName;
use mesh_types::view::{Key, Object, ServiceBackend};

pub use decode::Error;
use decode::Fact;
pub use feed::{Feed, Handle};
use joined::Joined;
use slices::Slices;
pub use subscription::Subscription;

/// # Invariants
/// - A backend that its Service withdraws, by its own setting, under the verdict on its cluster is not visible. Addresses,
///   numbers and nodes stay: connections that still work are not cut, and policy keeps its meaning.
/// - Nothing of a cluster is visible that is no peer, or whose configuration is not mirrored: see `joined`.
/// - Everything else is.
/// - What a change says is exactly the difference between the visible objects before and after it.
#[derive(Clone)]
pub struct View {
    own: ClusterName,
    facts: BTreeMap<Key, Object>,
    healths: BTreeMap<ClusterName, Health>,
    /// Withdrawal periods of the own Services, and how many ask for each.
    periods: BTreeMap<Duration, usize>,
    /// The same of what makes a cluster stale.
    stale_periods: BTreeMap<Duration, usize>,
    clocks: BTreeMap<ClusterName, u64>,
    joined: Joined,
    /// What the peers say of their backends, of which `facts` has what counts.
    slices: Slices,
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
        Self {
            own,
            facts: BTreeMap::new(),
            healths: BTreeMap::new(),
            periods: BTreeMap::new(),
            stale_periods: BTreeMap::new(),
            clocks: BTreeMap::new(),
            joined: Joined::default(),
            slices: Slices::default(),
        }
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
                Some(Fact::Configured { cluster, is_there }) => self.configured(&cluster, is_there, &mut touched),
                Some(Fact::RemoteService { cluster, name, value }) => {
                    let (service, backends) = value.unzip();
                    let backends = backends.map(by_address);
                    let changed = self.slices.set_legacy(&cluster, &name, backends);
                    let key = Key::Service { cluster: cluster.clone(), service: name };
                    self.set(key, service.map(Object::Service), &mut touched);
                    self.set_backends(&cluster, changed, &mut touched);
                }
                Some(Fact::RemoteSlice { cluster, slice, value }) => {
                    let value = value.map(|(service, backends)| (service, by_address(backends)));
                    let changed = self.slices.set_slice(&cluster, &slice, value);
                    self.set_backends(&cluster, changed, &mut touched);
                }
                Some(Fact::SlicesComplete { cluster, is_complete }) => {
                    let changed = self.slices.set_complete(&cluster, is_complete);
                    self.set_backends(&cluster, changed, &mut touched);
                }
                Some(Fact::Mirror { cluster, clock }) => self.note_clock(cluster, clock, &mut origin_times),
                Some(Fact::Health(cluster, health)) => self.judged(cluster, health, &mut touched),
                Some(Fact::Clock(clock)) => self.note_clock(self.own.clone(), clock, &mut origin_times),
            }
        }
        (self.difference(touched, origin_times), errors)
    }

    /// Everything visible.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.facts.iter().filter(|(key, object)| self.is_visible(key, object)).map(|(_, object)| object)
    }

    /// Everything visible behind a key, or from the first one on, in the order of keys.
    pub(super) fn objects_after(&self, key: Option<&Key>) -> impl Iterator<Item = (&Key, &Object)> {
        let after = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.facts.range((after, Bound::Unbounded)).filter(|(key, object)| self.is_visible(key, object))
    }

    /// Everything known, withdrawn backends included.
    pub fn facts(&self) -> &BTreeMap<Key, Object> {
        &self.facts
    }

    /// What turns `earlier` into this view.
    pub fn since(&self, earlier: &Self) -> Change {
        let visible =
            |view: &Self, key: &Key| view.facts.get(key).filter(|object| view.is_visible(key, object)).cloned();
        let mut touched = BTreeMap::new();
        for key in earlier.facts.keys().chain(self.facts.keys()) {
            let before = visible(earlier, key);
            if before != visible(self, key) {
                touched.insert(key.clone(), before);
            }
        }
        self.difference(touched, BTreeMap::new())
    }

    fn is_visible(&self, key: &Key, object: &Object) -> bool {
        match key {
            Key::Backend { cluster, service, .. } => {
                self.is_shown(cluster.as_str()) && !self.withdraws(service, cluster)
            }
            _ => joined::owner(key, object).is_none_or(|cluster| self.is_shown(cluster)),
        }
    }

    /// Remembers in `touched` what was visible of a key before this batch.
    fn set(&mut self, key: Key, object: Option<Object>, touched: &mut BTreeMap<Key, Option<Object>>) {
        let visible_before = self.facts.get(&key).filter(|object| self.is_visible(&key, object)).cloned();
        self.note_setting(&key, object.as_ref(), touched);
        self.note_cluster(&key, object.is_some(), touched);
        match object {
            Some(object) => self.facts.insert(key.clone(), object),
            None => self.facts.remove(&key),
        };
        touched.entry(key).or_insert(visible_before);
    }

    /// Takes over what counts of a peer's backends now.
    fn set_backends(
        &mut self,
        cluster: &ClusterName,
        changed: slices::Touched,
        touched: &mut BTreeMap<Key, Option<Object>>,
    ) {
        for (service, address) in changed {
            let backend = self.slices.backend(cluster, &service, address).map(Object::Backend);
            self.set(Key::Backend { cluster: cluster.clone(), service, address }, backend, touched);
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
            let now = self.facts.get(&key).filter(|object| self.is_visible(&key, object));
            match (before, now) {
                (before, Some(now)) if before.as_ref() != Some(now) => change.upserts.push(now.clone()),
                (Some(_), None) => change.deletes.push(key),
                _ => {}
            }
        }
        change.deletes.reverse();
        change
    }

    /// All backends of all clusters behind a Service's name, withdrawn ones left out.
    fn backends_of<'a>(&'a self, name: &'a mesh_types::ServiceName) -> impl Iterator<Item = &'a ServiceBackend> {
        let used = self.clusters().filter(|cluster| self.is_shown(cluster.as_str()) && !self.withdraws(name, cluster));
        used.flat_map(move |cluster| {
            let key = |address| Key::Backend { cluster: cluster.clone(), service: name.clone(), address };
            self.facts.range(key(decode::FIRST)..=key(decode::LAST)).filter_map(|(_, object)| match object {
                Object::Backend(backend) => Some(backend),
                _ => None,
            })
        })
    }
}

fn by_address(backends: Vec<ServiceBackend>) -> slices::Backends {
    backends.into_iter().map(|backend| (backend.address, backend)).collect()
}

#[cfg(test)]
mod tests;
