//! The difference between what should be in the store and what is, as ordered batches. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use federation::contract::keys;

use super::keys::rank;

/// # Invariants
/// - A key is dirty exactly while its desired value differs from its realized one, except that realized keys that were
///   never desired wait for [`Planner::prune`].
/// - `realized` changes only by [`Planner::load`], [`Planner::found`] and by what was committed.
#[derive(Default)]
pub struct Planner {
    desired: BTreeMap<Bytes, Bytes>,
    realized: BTreeMap<Bytes, Bytes>,
    dirty: BTreeSet<Bytes>,
}

/// Keys to write in one Txn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub puts: Vec<(Bytes, Bytes)>,
    pub deletes: Vec<Bytes>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bounds of one batch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub keys: usize,
    pub bytes: usize,
}

impl Planner {
    /// What the store holds at the start.
    pub fn load(&mut self, kvs: impl IntoIterator<Item = (Bytes, Bytes)>) {
        for (key, value) in kvs {
            self.realized.insert(key.clone(), value);
            self.settle(&key);
        }
    }

    /// The store was found to hold this of a key, whoever wrote it; `None`: nothing.
    pub fn found(&mut self, key: &Bytes, value: Option<&Bytes>) {
        match value {
            Some(value) => self.realized.insert(key.clone(), value.clone()),
            None => self.realized.remove(key),
        };
        if self.desired.contains_key(key) {
            self.dirty.insert(key.clone());
        }
        self.settle(key);
    }

    /// What the store holds of a key.
    pub fn realized(&self, key: &[u8]) -> Option<&Bytes> {
        self.realized.get(key)
    }

    pub fn set(&mut self, key: impl Into<Bytes>, value: Option<Bytes>) {
        let key = key.into();
        if self.realized.get(&key) == value.as_ref() {
            self.dirty.remove(&key);
        } else {
            self.dirty.insert(key.clone());
        }
        match value {
            Some(value) => self.desired.insert(key, value),
            None => self.desired.remove(&key),
        };
    }

    /// From now on, what is not desired is to be deleted: call when everything that exists has been set once.
    pub fn prune(&mut self) {
        let gone = self.realized.keys().filter(|key| !self.desired.contains_key(*key));
        self.dirty.extend(gone.cloned());
    }

    /// Everything to be done, in order: puts by rank, then deletes by falling rank. A fact that moves between everybody's
    /// place and its audiences' is one step, so that no reader sees it go and come; where it is kept from somebody from now
    /// on, the step counts as a delete.
    pub fn batches(&self, limits: Limits) -> Vec<Batch> {
        let mut facts: BTreeMap<&[u8], Vec<&Bytes>> = BTreeMap::new();
        for key in &self.dirty {
            facts.entry(keys::shown(key)).or_default().push(key);
        }
        let is_delete = |(fact, places): &(&[u8], Vec<&Bytes>)| {
            let is_gone = |key: &Bytes| !self.desired.contains_key(key);
            places.iter().all(|key| is_gone(key)) || places.iter().any(|key| *key == fact && is_gone(key))
        };
        let (mut deletes, mut puts): (Vec<_>, Vec<_>) = facts.into_iter().partition(is_delete);
        puts.sort_by_key(|(fact, _)| rank(fact));
        deletes.sort_by_key(|(fact, _)| std::cmp::Reverse(rank(fact)));
        let mut batches = vec![Batch::default()];
        let mut bytes = 0;
        for (_, places) in puts.into_iter().chain(deletes) {
            let size = places.iter().map(|key| key.len() + self.desired.get(*key).map_or(0, Bytes::len)).sum::<usize>();
            let is_full =
                |b: &Batch| !b.is_empty() && (b.len() + places.len() > limits.keys || bytes + size > limits.bytes);
            if batches.last().is_some_and(is_full) {
                batches.push(Batch::default());
                bytes = 0;
            }
            bytes += size;
            let Some(batch) = batches.last_mut() else { continue };
            for key in places {
                match self.desired.get(key) {
                    Some(value) => batch.puts.push((key.clone(), value.clone())),
                    None => batch.deletes.push(key.clone()),
                }
            }
        }
        batches.retain(|b| !b.is_empty());
        batches
    }

    /// The store took the batch.
    pub fn committed(&mut self, batch: &Batch) {
        for (key, value) in &batch.puts {
            self.realized.insert(key.clone(), value.clone());
            self.settle(key);
        }
        for key in &batch.deletes {
            self.realized.remove(key);
            self.settle(key);
        }
    }

    /// The store will never take this key: stop trying until its value changes.
    pub fn give_up(&mut self, key: &Bytes) {
        self.dirty.remove(key);
    }

    fn settle(&mut self, key: &Bytes) {
        if self.desired.get(key) == self.realized.get(key) {
            self.dirty.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { keys: 100, bytes: 1 << 20 };

    fn set(planner: &mut Planner, key: &'static str, value: Option<&'static str>) {
        planner.set(key, value.map(Bytes::from));
    }

    fn shown(batches: &[Batch]) -> Vec<String> {
        let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
        let one = |b: &Batch| {
            let puts = b.puts.iter().map(|(k, _)| format!("+{}", text(k)));
            puts.chain(b.deletes.iter().map(|k| format!("-{}", text(k)))).collect::<Vec<_>>().join(" ")
        };
        batches.iter().map(one).collect()
    }

    #[test]
    fn numbers_come_before_the_addresses_that_mean_them_and_leave_after_them() {
        let mut planner = Planner::default();
        let (ip, id, service) =
            ("cilium/state/ip/v1/default/a", "cilium/state/identities/v1/id/1", "cilium/state/services/v1/s");
        for key in [ip, service, id] {
            set(&mut planner, key, Some("v"));
        }
        let batches = planner.batches(LIMITS);
        assert_eq!(shown(&batches), [format!("+{id} +{ip} +{service}")]);
        planner.committed(&batches[0]);
        assert!(planner.batches(LIMITS).is_empty());
        for key in [ip, service, id] {
            set(&mut planner, key, None);
        }
        assert_eq!(shown(&planner.batches(LIMITS)), [format!("-{service} -{ip} -{id}")]);
    }

    #[test]
    fn a_fact_that_moves_is_one_step_and_keeping_it_from_somebody_comes_last() {
        let mut planner = Planner::default();
        let (ip, id) = ("cilium/state/ip/v1/default/a", "cilium/state/identities/v1/id/1");
        let (ip_of_b, id_of_b) = (
            "isthmus/v1/audience/b/cilium/state/ip/v1/default/a",
            "isthmus/v1/audience/b/cilium/state/identities/v1/id/1",
        );
        let limits = Limits { keys: 1, bytes: 1 << 20 };
        let commit = |planner: &mut Planner| {
            let batches = planner.batches(limits);
            for batch in &batches {
                planner.committed(batch);
            }
            shown(&batches)
        };
        let place = |planner: &mut Planner, is_kept: bool| {
            for (everybodys, of_b) in [(ip, ip_of_b), (id, id_of_b)] {
                set(planner, everybodys, (!is_kept).then_some("v"));
                set(planner, of_b, is_kept.then_some("v"));
            }
        };
        place(&mut planner, false);
        commit(&mut planner);
        place(&mut planner, true);
        set(&mut planner, "cilium/state/ip/v1/default/new", Some("v"));
        let new = "+cilium/state/ip/v1/default/new".to_owned();
        assert_eq!(commit(&mut planner), [new, format!("+{ip_of_b} -{ip}"), format!("+{id_of_b} -{id}")]);
        place(&mut planner, false);
        assert_eq!(commit(&mut planner), [format!("+{id} -{id_of_b}"), format!("+{ip} -{ip_of_b}")]);
    }

    #[test]
    fn what_the_store_already_holds_is_not_written_and_the_rest_goes_only_after_the_scan() {
        let mut planner = Planner::default();
        planner.load([("a".into(), "1".into()), ("b".into(), "1".into())]);
        set(&mut planner, "a", Some("1"));
        assert!(planner.batches(LIMITS).is_empty());
        planner.prune();
        assert_eq!(shown(&planner.batches(LIMITS)), ["-b"]);
    }

    #[test]
    fn batches_keep_to_the_limits_and_a_value_that_changes_meanwhile_is_written_again() {
        let mut planner = Planner::default();
        for key in ["a", "b", "c"] {
            set(&mut planner, key, Some("1"));
        }
        let batches = planner.batches(Limits { keys: 2, bytes: 1 << 20 });
        assert_eq!(shown(&batches), ["+a +b", "+c"]);
        assert_eq!(shown(&planner.batches(Limits { keys: 10, bytes: 3 })), ["+a", "+b", "+c"]);
        set(&mut planner, "a", Some("2"));
        planner.committed(&batches[0]);
        planner.committed(&batches[1]);
        assert_eq!(shown(&planner.batches(LIMITS)), ["+a"]);
    }
}
