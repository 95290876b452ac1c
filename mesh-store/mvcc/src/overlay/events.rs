//! What the changes of one revision, in both places of a key, are as one event.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Overlay;
use crate::{Event, EventKind, KeyRange, KeyValue};

impl Overlay {
    /// Changes of one revision, each where its key is kept, as they are shown: one event for a key, whichever of its places
    /// changed. `at` reads a stored key as of that revision; it is asked for the other place of a key, where only one changed.
    ///
    /// Where what is shown goes while an older version in the other place stays, that one comes back: a put of an earlier
    /// revision. Who moves a key in one transaction, or writes its new place before it deletes the old one, never has it.
    pub fn events(
        &self,
        range: &KeyRange,
        changes: impl IntoIterator<Item = Event>,
        at: impl Fn(&[u8]) -> Option<KeyValue>,
    ) -> Vec<Event> {
        let mut keys: BTreeMap<Bytes, [Option<(usize, Event)>; 2]> = BTreeMap::new();
        for (index, event) in changes.into_iter().enumerate() {
            let Some((shown, is_own)) = self.find(range, &event.kv.key) else { continue };
            keys.entry(shown).or_default()[usize::from(is_own)] = Some((index, event));
        }
        let told = keys.into_iter().filter_map(|(shown, [everybodys, own])| {
            let everybodys = Place::of(everybodys, || at(&shown));
            let stored = self.stored(&shown);
            let own = Place::of(own, || if self.within.contains(&shown) { at(&stored) } else { None });
            Place::told(everybodys, own).map(|(index, event)| (index, self.show_event(event)))
        });
        let mut told: Vec<(usize, Event)> = told.collect();
        told.sort_by_key(|(index, _)| *index);
        told.into_iter().map(|(_, event)| event).collect()
    }

    fn show_event(&self, event: Event) -> Event {
        Event { kv: self.show(event.kv), prev_kv: event.prev_kv.map(|kv| self.show(kv)), ..event }
    }
}

/// One of the two places of a key, around one revision.
struct Place {
    before: Option<KeyValue>,
    after: Option<KeyValue>,
    /// Of the change among those of its revision; `None`: it did not change.
    index: Option<usize>,
    deleted: Option<Event>,
    /// What was there before has been compacted away.
    is_lost: bool,
}

impl Place {
    fn of(change: Option<(usize, Event)>, unchanged: impl FnOnce() -> Option<KeyValue>) -> Self {
        let Some((index, event)) = change else {
            let kv = unchanged();
            return Self { before: kv.clone(), after: kv, index: None, deleted: None, is_lost: false };
        };
        let is_lost = event.prev_kv.is_none() && !event.is_create();
        let before = event.prev_kv.clone();
        match event.kind {
            EventKind::Put => Self { before, after: Some(event.kv), index: Some(index), deleted: None, is_lost },
            EventKind::Delete => Self { before, after: None, index: Some(index), deleted: Some(event), is_lost },
        }
    }

    /// What the revision made of the key, and with which change's place among the others.
    fn told(everybodys: Self, own: Self) -> Option<(usize, Event)> {
        let is_lost = everybodys.is_lost || own.is_lost;
        let (before, was_own) = newest(everybodys.before, own.before);
        let (after, is_own) = newest(everybodys.after, own.after);
        let prev_kv = before.filter(|_| !is_lost);
        let Some(kv) = after else {
            let index = everybodys.index.into_iter().chain(own.index).min()?;
            let deleted = own.deleted.or(everybodys.deleted)?;
            return Some((index, Event { prev_kv, ..deleted }));
        };
        let index = if is_own { own.index } else { everybodys.index };
        // What was not seen before the compaction may be told again.
        let was_shown = prev_kv.as_ref().is_some_and(|prev| prev.mod_revision == kv.mod_revision && was_own == is_own);
        if was_shown {
            return None;
        }
        let index = index.or(everybodys.index).or(own.index)?;
        Some((index, Event { kind: EventKind::Put, kv, prev_kv }))
    }
}

/// Of two versions of one shown key, the one that counts, and whether it is the overlay's.
fn newest(everybodys: Option<KeyValue>, own: Option<KeyValue>) -> (Option<KeyValue>, bool) {
    match (everybodys, own) {
        (Some(everybodys), Some(own)) if everybodys.mod_revision > own.mod_revision => (Some(everybodys), false),
        (everybodys, None) => (everybodys, false),
        (_, own) => (own, true),
    }
}
