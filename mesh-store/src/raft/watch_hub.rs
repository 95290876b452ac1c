//! Who wants to know about which keys, and waking them when one of theirs has changed.
//!
//! No event is queued for a watch: the history of the store is the only buffer. A change merely notes, in each watch it
//! matters to, the first revision that the watch has not looked at yet. So the apply path pays for finding the watches
//! (by the key's prefixes, not by asking every watch), a slow watch costs no memory, and one that is left behind by
//! compaction is told so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use mesh_store_mvcc::{Changed, KeyRange};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One watch, as the apply path sees it.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// First revision with a matching event that the watch has not looked at; 0 for none. Written under the state's lock
    /// (shared or exclusive), so a reader that holds it sees a value that fits the state.
    pending: AtomicI64,
    /// Progress is wanted at once.
    asked: AtomicBool,
    notify: Notify,
}

impl Bell {
    pub(crate) fn ring(&self, revision: i64) {
        if self.pending.compare_exchange(0, revision, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.notify.notify_one();
        }
    }

    pub(crate) fn take_pending(&self) -> i64 {
        self.pending.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn ask_progress(&self) {
        self.asked.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(crate) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    pub(crate) async fn rung(&self) {
        self.notify.notified().await;
    }
}

type Group = HashMap<u64, Arc<Bell>>;

#[derive(Debug, Default)]
pub(crate) struct WatchHub {
    registered: Mutex<Registered>,
}

#[derive(Debug, Default)]
struct Registered {
    next_id: u64,
    singles: HashMap<Bytes, Group>,
    prefixes: HashMap<Bytes, Group>,
    /// How many of `prefixes` have a length: a key is looked up by its own prefixes of these lengths.
    lengths: BTreeMap<usize, usize>,
    /// Ranges that are neither, rare: asked one by one.
    others: HashMap<KeyRange, Group>,
}

/// Ends the registration when dropped.
pub(crate) struct Registration {
    hub: Arc<WatchHub>,
    range: KeyRange,
    id: u64,
    pub(crate) bell: Arc<Bell>,
}

impl WatchHub {
    pub(crate) fn register(self: &Arc<Self>, range: KeyRange) -> Registration {
        self.register_bell(range, Arc::default())
    }

    /// For a watch of two ranges: the changes of either ring the same bell.
    pub(crate) fn register_bell(self: &Arc<Self>, range: KeyRange, bell: Arc<Bell>) -> Registration {
        let mut registered = self.registered.lock();
        registered.next_id += 1;
        let id = registered.next_id;
        registered.group_mut(&range).insert(id, Arc::clone(&bell));
        drop(registered);
        Registration { hub: Arc::clone(self), range, id, bell }
    }

    /// Wakes every watch, whatever it is about: the state has been replaced.
    pub(crate) fn ring_all(&self) {
        let registered = self.registered.lock();
        let groups = registered.singles.values().chain(registered.prefixes.values()).chain(registered.others.values());
        for bell in groups.flat_map(HashMap::values) {
            bell.ring(1);
        }
    }

    /// Wakes every watch that one of the changes matters to. Called under the state's exclusive lock.
    pub(crate) fn publish(&self, revision: i64, changed: &Changed) {
        let registered = self.registered.lock();
        for key in changed.keys() {
            registered.ring(key, revision);
        }
    }
}

impl Registered {
    fn ring(&self, key: &[u8], revision: i64) {
        let prefixes =
            self.lengths.keys().take_while(|len| **len <= key.len()).filter_map(|len| self.prefixes.get(&key[..*len]));
        let others = self.others.iter().filter(|(range, _)| range.contains(key)).map(|(_, group)| group);
        for bell in self.singles.get(key).into_iter().chain(prefixes).chain(others).flat_map(HashMap::values) {
            bell.ring(revision);
        }
    }

    fn group_mut(&mut self, range: &KeyRange) -> &mut Group {
        if range.is_single() {
            return self.singles.entry(range.key.clone()).or_default();
        }
        if range.as_prefix().is_some() {
            if !self.prefixes.contains_key(&range.key) {
                *self.lengths.entry(range.key.len()).or_default() += 1;
            }
            return self.prefixes.entry(range.key.clone()).or_default();
        }
        self.others.entry(range.clone()).or_default()
    }

    fn remove(&mut self, range: &KeyRange, id: u64) {
        let group = self.group_mut(range);
        group.remove(&id);
        if !group.is_empty() {
            return;
        }
        if range.is_single() {
            self.singles.remove(&range.key);
        } else if range.as_prefix().is_some() {
            self.prefixes.remove(&range.key);
            let len = range.key.len();
            if let Some(count) = self.lengths.get_mut(&len) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&len);
                }
            }
        } else {
            self.others.remove(range);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.registered.lock().remove(&self.range, self.id);
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn change(hub: &WatchHub, key: &'static str, revision: i64) {
        hub.registered.lock().ring(key.as_bytes(), revision);
    }

    #[test]
    fn a_change_rings_exactly_the_watches_whose_range_holds_the_key() {
        let hub = Arc::new(WatchHub::default());
        let ranges = [
            KeyRange::single("a/b"),
            KeyRange::prefix("a/"),
            KeyRange::prefix("a"),
            KeyRange::new("a/a", "a/c"),
            KeyRange::all(),
            KeyRange::from_key("b"),
        ];
        let watches: Vec<_> = ranges.iter().map(|range| hub.register(range.clone())).collect();
        for (revision, key) in [(2, "a/b"), (3, "a/z"), (4, "b"), (5, "a"), (6, "zz")] {
            change(&hub, key, revision);
            for (range, watch) in ranges.iter().zip(&watches) {
                let expected = if range.contains(key.as_bytes()) { revision } else { 0 };
                assert_eq!(watch.bell.take_pending(), expected, "{key} in {range:?}");
            }
        }
        drop(watches);
        let left = hub.registered.lock();
        assert!(
            left.singles.is_empty() && left.prefixes.is_empty() && left.lengths.is_empty() && left.others.is_empty()
        );
    }

    #[test]
    fn only_the_first_unseen_revision_is_remembered() {
        let hub = Arc::new(WatchHub::default());
        let watch = hub.register(KeyRange::prefix("a"));
        change(&hub, "a1", 5);
        change(&hub, "a2", 6);
        assert_eq!(watch.bell.take_pending(), 5);
        assert_eq!(watch.bell.take_pending(), 0);
    }
}
