//! Two places of the store read as one: keys that only some readers may see, shown to them where everybody's are.
//!
//! It owns where an overlay's keys are, and which of two versions of a shown key counts. It must never decide who reads
//! through which overlay, nor change anything.
//!
//! ```text
//!  stored                    shown through Overlay{within: "facts/", under: "for/b/"}
//!  facts/1                   facts/1
//!  for/b/facts/2             facts/2
//!  for/c/facts/3             (nothing: another overlay's)
//! ```
//! A key that is in both places is shown once: the one that was changed last, or the overlay's where one revision changed
//! both. So whoever moves a key from one place to the other in one transaction makes one put of it.

use std::collections::BTreeMap;
use std::iter::Peekable;

use bytes::Bytes;

use crate::keyspace::Keyspace;
use crate::stored::Record;
use crate::{KeyRange, KeyValue};

mod events;

/// What one kind of reader sees beside what everybody sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Overlay {
    within: KeyRange,
    under: Bytes,
}

impl Overlay {
    /// Keys that start with `under` and then `within` are shown without `under`. Neither may be empty.
    pub fn new(within: impl Into<Bytes>, under: impl Into<Bytes>) -> Self {
        Self { within: KeyRange::prefix(within), under: under.into() }
    }

    /// Where the overlay keeps what it shows of `range`; `None` when it shows none of it.
    pub fn part(&self, range: &KeyRange) -> Option<KeyRange> {
        if range.is_single() {
            return self.within.contains(&range.key).then(|| KeyRange::single(self.stored(&range.key)));
        }
        let key = range.key.clone().max(self.within.key.clone());
        let end = match (range.is_open_ended(), self.within.is_open_ended()) {
            (true, true) => {
                return Some(KeyRange::new(self.stored(&key), KeyRange::prefix(self.under.clone()).range_end));
            }
            (true, false) => &self.within.range_end,
            (false, true) => &range.range_end,
            (false, false) => (&range.range_end).min(&self.within.range_end),
        };
        (key < *end).then(|| KeyRange::new(self.stored(&key), self.stored(end)))
    }

    /// Where the overlay keeps a shown key.
    fn stored(&self, shown: &[u8]) -> Bytes {
        [&self.under, shown].concat().into()
    }

    /// The smallest range that holds both a range and the overlay's part of it.
    pub fn cover(&self, range: &KeyRange) -> KeyRange {
        let Some(part) = self.part(range) else { return range.clone() };
        let after = |range: &KeyRange| {
            if range.is_single() { Bytes::from([&range.key, &b"\0"[..]].concat()) } else { range.range_end.clone() }
        };
        let key = range.key.clone().min(part.key.clone());
        if range.is_open_ended() || part.is_open_ended() {
            return KeyRange::from_key(key);
        }
        KeyRange::new(key, after(range).max(after(&part)))
    }

    /// Two answers, of a range and of the overlay's part of it, as one: in byte order of the keys as they are shown.
    pub fn merge(&self, everybodys: Vec<KeyValue>, own: Vec<KeyValue>) -> Vec<KeyValue> {
        let everybodys = everybodys.into_iter().filter(|kv| self.shown(&kv.key).is_none());
        let mut all: BTreeMap<Bytes, KeyValue> = everybodys.map(|kv| (kv.key.clone(), kv)).collect();
        for kv in own.into_iter().map(|kv| self.show(kv)) {
            if all.get(&kv.key).is_none_or(|other| kv.mod_revision >= other.mod_revision) {
                all.insert(kv.key.clone(), kv);
            }
        }
        all.into_values().collect()
    }

    /// The other place of a key of which a change was read; `None` for a key that the range does not show.
    pub fn other_place(&self, range: &KeyRange, stored: &[u8]) -> Option<Bytes> {
        match self.find(range, stored)? {
            (shown, true) => Some(shown),
            (shown, false) => self.within.contains(&shown).then(|| self.stored(&shown)),
        }
    }

    /// How a stored key is shown, if the range shows it, and whether it is the overlay's own.
    fn find(&self, range: &KeyRange, stored: &[u8]) -> Option<(Bytes, bool)> {
        let (shown, is_own) = match self.shown(stored) {
            Some(shown) => (shown, true),
            None => (stored, false),
        };
        let is_shown = (!is_own || self.within.contains(shown)) && range.contains(shown);
        is_shown.then(|| (Bytes::copy_from_slice(shown), is_own))
    }

    fn show(&self, kv: KeyValue) -> KeyValue {
        match self.shown(&kv.key) {
            Some(_) => KeyValue { key: kv.key.slice(self.under.len()..), ..kv },
            None => kv,
        }
    }

    /// How a key of the overlay is shown; `None` for any other key.
    pub fn shown<'a>(&self, stored: &'a [u8]) -> Option<&'a [u8]> {
        stored.strip_prefix(&self.under[..])
    }
}

/// A version of a key as it is shown.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) record: &'a Record,
    /// Bytes of the stored key that are not shown.
    hidden: usize,
}

impl<'a> Found<'a> {
    pub(crate) fn plain(record: &'a Record) -> Self {
        Self { record, hidden: 0 }
    }

    pub(crate) fn key(&self) -> &'a [u8] {
        &self.record.key()[self.hidden..]
    }

    pub(crate) fn key_value(&self) -> KeyValue {
        self.show(self.record.key_value())
    }

    pub(crate) fn without_value(&self) -> KeyValue {
        self.show(self.record.without_value())
    }

    fn show(&self, kv: KeyValue) -> KeyValue {
        KeyValue { key: kv.key.slice(self.hidden..), ..kv }
    }

    /// Of two versions of one shown key, the one that counts.
    fn or(self, other: Self) -> Self {
        let rank = |found: &Self| (found.record.mod_revision, found.hidden);
        if rank(&other) > rank(&self) { other } else { self }
    }
}

/// A keyspace as it is shown through an overlay, or as it is.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) overlay: Option<&'a Overlay>,
}

impl<'a> Shown<'a> {
    /// The keys of a range as of revision `at`, in byte order as they are shown.
    pub(crate) fn scan(self, range: &KeyRange, at: i64) -> impl Iterator<Item = Found<'a>> + use<'a> {
        let Self { keyspace, overlay } = self;
        // A reader of an overlay never meets its keys where they are kept.
        let is_kept = move |record: &&Record| overlay.is_none_or(|overlay| overlay.shown(record.key()).is_none());
        let everybodys = keyspace.scan(range, at).filter(is_kept).map(Found::plain);
        let part = overlay.and_then(|overlay| Some((overlay.part(range)?, overlay.under.len())));
        let own = part
            .into_iter()
            .flat_map(move |(part, hidden)| keyspace.scan(&part, at).map(move |record| Found { record, hidden }));
        Merged { everybodys: everybodys.peekable(), own: own.peekable() }
    }
}

/// Two ordered runs of shown keys as one.
struct Merged<A: Iterator, B: Iterator> {
    everybodys: Peekable<A>,
    own: Peekable<B>,
}

impl<'a, A: Iterator<Item = Found<'a>>, B: Iterator<Item = Found<'a>>> Iterator for Merged<A, B> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let order = match (self.everybodys.peek(), self.own.peek()) {
            (Some(everybodys), Some(own)) => everybodys.key().cmp(own.key()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => self.everybodys.next(),
            std::cmp::Ordering::Greater => self.own.next(),
            std::cmp::Ordering::Equal => Some(self.everybodys.next()?.or(self.own.next()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlays_part_of_a_range_is_what_the_range_shows_of_it() {
        let overlay = Overlay::new("facts/", "for/b/");
        let table = [
            (KeyRange::single("facts/1"), Some(KeyRange::single("for/b/facts/1"))),
            (KeyRange::single("fact"), None),
            (KeyRange::prefix("facts/"), Some(KeyRange::new("for/b/facts/", "for/b/facts0"))),
            (KeyRange::prefix("facts/ip/"), Some(KeyRange::new("for/b/facts/ip/", "for/b/facts/ip0"))),
            (KeyRange::new("facts/3\0", "facts0"), Some(KeyRange::new("for/b/facts/3\0", "for/b/facts0"))),
            (KeyRange::from_key("facts/3"), Some(KeyRange::new("for/b/facts/3", "for/b/facts0"))),
            (KeyRange::all(), Some(KeyRange::new("for/b/facts/", "for/b/facts0"))),
            (KeyRange::new("a", "z"), Some(KeyRange::new("for/b/facts/", "for/b/facts0"))),
            (KeyRange::new("a", "facts/"), None),
            (KeyRange::from_key("facts0"), None),
            (KeyRange::new("facts/5", "facts/4"), None),
        ];
        for (range, want) in table {
            assert_eq!(overlay.part(&range), want, "{range:?}");
        }
        assert_eq!(overlay.shown(b"for/b/facts/1"), Some(&b"facts/1"[..]));
        assert_eq!(overlay.shown(b"for/c/facts/1"), None);
    }
}
