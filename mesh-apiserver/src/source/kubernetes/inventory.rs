//! What was delivered of each object, and what of the API server's word therefore still has to be. Pure.
//!
//! A list replaces what is known of its resource: page by page what is new or differs is delivered, and at its end, at once,
//! what was not in it is taken back. Until then everything that was known holds, so that nothing flaps.

mod shelf;

use std::collections::BTreeMap;

use self::shelf::{Known, Shelf};
use super::wire::Item;
use crate::objects::{Kind, Object, ObjectKey};
use crate::source::{Change, Rejection, Status, Trouble};

/// # Invariants
/// An object in a Namespace that is not known yet waits for it: what the Namespace keeps from other clusters would be theirs
/// until it is read, and watches of different resources come in any order.
pub(super) struct Inventory {
    location: String,
    shelves: BTreeMap<Kind, Shelf>,
    /// By Namespace.
    waiting: BTreeMap<String, BTreeMap<ObjectKey, Box<Object>>>,
    is_complete: bool,
    is_delayed: bool,
    requests: u64,
    news: Vec<Rejection>,
}

impl Inventory {
    pub(super) fn new(location: String, kinds: impl Iterator<Item = Kind>) -> Self {
        let shelves = kinds.map(|kind| (kind, Shelf::default())).collect();
        Self {
            location,
            shelves,
            waiting: BTreeMap::new(),
            is_complete: false,
            is_delayed: false,
            requests: 0,
            news: Vec::new(),
        }
    }

    /// A list of the kind begins: what it does not show is gone at its end.
    pub(super) fn begin_list(&mut self, kind: Kind) {
        self.shelf(kind).begin_list();
    }

    /// An object is there, as a list or a watch shows it.
    pub(super) fn apply(&mut self, item: Item) -> Vec<Change> {
        let Item { key, version, read } = item;
        let shelf = self.shelf(key.kind);
        if !shelf.see(&key, &version) {
            return Vec::new();
        }
        let was_delivered = shelf.is_delivered(&key);
        let (object, reason) = match read {
            Ok(object) => (Some(object), None),
            Err(malformed) => (malformed.stand_in, Some(malformed.reason)),
        };
        let is_news = shelf.put(key.clone(), Known { version, is_delivered: was_delivered, reason: reason.clone() });
        if let Some(reason) = reason.filter(|_| is_news) {
            self.news.push(Rejection { object: key.to_string(), reason });
        }
        match object {
            Some(object) => self.deliver(key, object),
            None => self.take_back(&key),
        }
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, key: &ObjectKey) -> Vec<Change> {
        let changes = self.take_back(key);
        self.shelf(key.kind).forget(key);
        changes
    }

    /// The list has shown everything.
    pub(super) fn end_list(&mut self, kind: Kind) -> Vec<Change> {
        let gone = self.shelf(kind).end_list();
        gone.iter().flat_map(|key| self.delete(key)).collect()
    }

    /// What a list has shown was taken by the consumer. True when that completes the first scan: once.
    pub(super) fn listed(&mut self, kind: Kind) -> bool {
        self.shelf(kind).is_listed = true;
        let is_complete = self.shelves.values().all(|shelf| shelf.is_listed);
        is_complete && !std::mem::replace(&mut self.is_complete, is_complete)
    }

    /// A resource cannot be followed now. True when no other one says the same: worth a line in the log.
    pub(super) fn failed(&mut self, kind: Kind, reason: String, now_unix_nanos: u64) -> bool {
        let is_news = self.shelves.values().all(|shelf| shelf.trouble.as_ref().is_none_or(|t| t.reason != reason));
        let shelf = self.shelf(kind);
        let since_unix_nanos = shelf.trouble.as_ref().map_or(now_unix_nanos, |trouble| trouble.since_unix_nanos);
        shelf.trouble = Some(Trouble { since_unix_nanos, reason });
        is_news
    }

    /// A resource is followed again. True when that was the last that was not.
    pub(super) fn recovered(&mut self, kind: Kind) -> bool {
        self.shelf(kind).trouble.take().is_some() && self.trouble().is_none()
    }

    /// The first scan takes longer than a moment. True once, and never after it is complete.
    pub(super) fn delayed(&mut self) -> bool {
        !self.is_complete && !std::mem::replace(&mut self.is_delayed, true)
    }

    pub(super) fn count_request(&mut self) {
        self.requests += 1;
    }

    /// Objects that were left out since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn status(&self) -> Status {
        Status {
            kind: "kubernetes",
            location: self.location.clone(),
            objects: self.shelves.values().map(Shelf::delivered).sum(),
            ignored: 0,
            rejections: self.shelves.values().flat_map(Shelf::rejections).collect(),
            trouble: self.trouble(),
            requests: self.requests,
        }
    }

    /// Since the first resource could not be followed; every reason once.
    fn trouble(&self) -> Option<Trouble> {
        let troubles: Vec<&Trouble> = self.shelves.values().filter_map(|shelf| shelf.trouble.as_ref()).collect();
        let since_unix_nanos = troubles.iter().map(|trouble| trouble.since_unix_nanos).min()?;
        let mut reasons: Vec<&str> = Vec::new();
        for trouble in troubles {
            if !reasons.contains(&trouble.reason.as_str()) {
                reasons.push(&trouble.reason);
            }
        }
        Some(Trouble { since_unix_nanos, reason: reasons.join("; ") })
    }

    fn deliver(&mut self, key: ObjectKey, object: Box<Object>) -> Vec<Change> {
        if key.kind.is_namespaced() && !self.is_namespace_known(&key.namespace) {
            self.waiting.entry(key.namespace.clone()).or_default().insert(key, object);
            return Vec::new();
        }
        self.shelf(key.kind).delivered_now(&key);
        let mut changes = vec![Change::Apply(object)];
        if key.kind == Kind::Namespace {
            for (key, object) in self.waiting.remove(&key.name).unwrap_or_default() {
                self.shelf(key.kind).delivered_now(&key);
                changes.push(Change::Apply(object));
            }
        }
        changes
    }

    fn take_back(&mut self, key: &ObjectKey) -> Vec<Change> {
        if let Some(objects) = self.waiting.get_mut(&key.namespace) {
            objects.remove(key);
            if objects.is_empty() {
                self.waiting.remove(&key.namespace);
            }
        }
        if self.shelf(key.kind).taken_back(key) { vec![Change::Delete(key.clone())] } else { Vec::new() }
    }

    fn is_namespace_known(&self, name: &str) -> bool {
        let key = ObjectKey { kind: Kind::Namespace, namespace: String::new(), name: name.to_owned() };
        self.shelves.get(&Kind::Namespace).is_some_and(|shelf| shelf.is_delivered(&key))
    }

    fn shelf(&mut self, kind: Kind) -> &mut Shelf {
        self.shelves.entry(kind).or_default()
    }
}

#[cfg(test)]
mod tests;
