//! What is known of the objects of one kind. Holds names and versions, not the objects: those are the index's.

use std::collections::{BTreeMap, BTreeSet};

use crate::objects::ObjectKey;
use crate::source::{Rejection, Trouble};

#[derive(Debug, Default)]
pub(super) struct Shelf {
    known: BTreeMap<ObjectKey, Known>,
    /// While a list runs: what was known before and has not been in it.
    unseen: Option<BTreeSet<ObjectKey>>,
    /// A list came to its end, and the consumer has it all.
    pub(super) is_listed: bool,
    pub(super) trouble: Option<Trouble>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) version: Box<str>,
    /// The consumer has it, or what stands for it.
    pub(super) is_delivered: bool,
    /// Why it was left out.
    pub(super) reason: Option<String>,
}

impl Shelf {
    pub(super) fn begin_list(&mut self) {
        self.unseen = Some(self.known.keys().cloned().collect());
    }

    /// Ends the list; what was not in it.
    pub(super) fn end_list(&mut self) -> BTreeSet<ObjectKey> {
        self.unseen.take().unwrap_or_default()
    }

    /// Notes that the object is there. False when it is known in this version.
    pub(super) fn see(&mut self, key: &ObjectKey, version: &str) -> bool {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(key);
        }
        self.known.get(key).is_none_or(|known| *known.version != *version)
    }

    /// True when the reason is another one than before.
    pub(super) fn put(&mut self, key: ObjectKey, known: Known) -> bool {
        let reason = known.reason.clone();
        self.known.insert(key, known).is_none_or(|before| before.reason != reason)
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.known.remove(key);
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(key);
        }
    }

    pub(super) fn is_delivered(&self, key: &ObjectKey) -> bool {
        self.known.get(key).is_some_and(|known| known.is_delivered)
    }

    pub(super) fn delivered_now(&mut self, key: &ObjectKey) {
        if let Some(known) = self.known.get_mut(key) {
            known.is_delivered = true;
        }
    }

    /// True when the consumer had it.
    pub(super) fn taken_back(&mut self, key: &ObjectKey) -> bool {
        self.known.get_mut(key).is_some_and(|known| std::mem::take(&mut known.is_delivered))
    }

    pub(super) fn delivered(&self) -> usize {
        self.known.values().filter(|known| known.is_delivered).count()
    }

    pub(super) fn rejections(&self) -> impl Iterator<Item = Rejection> + '_ {
        self.known
            .iter()
            .filter_map(|(key, known)| Some(Rejection { object: key.to_string(), reason: known.reason.clone()? }))
    }
}
