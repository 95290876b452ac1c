//! A set of keys in etcd's notation, and the questions asked of it.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Keys from `key` up to, and without, `range_end`.
///
/// As in etcd: an empty `range_end` means the single key `key`; `range_end` of one zero byte means every key at or after
/// `key`; a `range_end` at or before `key` holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyRange {
    pub key: Bytes,
    pub range_end: Bytes,
}

const OPEN_END: &[u8] = b"\0";

pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl KeyRange {
    /// One key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), range_end: Bytes::new() }
    }

    /// `[key, range_end)`, in etcd's notation.
    pub fn new(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> Self {
        Self { key: key.into(), range_end: range_end.into() }
    }

    /// Every key at or after `key`.
    pub fn from_key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), range_end: Bytes::from_static(OPEN_END) }
    }

    /// Every key there is.
    pub fn all() -> Self {
        Self::from_key(Bytes::from_static(OPEN_END))
    }

    /// Every key that starts with `prefix`; an empty prefix means all keys.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key: Bytes = prefix.into();
        if key.is_empty() {
            return Self::all();
        }
        let range_end = prefix_end(&key).map_or(Bytes::from_static(OPEN_END), Bytes::from);
        Self { key, range_end }
    }

    pub fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// True when the range has no upper end.
    pub fn is_open_ended(&self) -> bool {
        self.range_end == OPEN_END
    }

    /// The prefix whose keys this range holds, if it is exactly that.
    pub fn as_prefix(&self) -> Option<&[u8]> {
        (!self.is_single() && prefix_end(&self.key).is_some_and(|end| end == self.range_end)).then_some(&self.key[..])
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= &self.key[..] && (self.is_open_ended() || key < &self.range_end[..])
    }

    /// True when every key of `inner` is in this range as well.
    pub fn encloses(&self, inner: &Self) -> bool {
        if inner.is_single() {
            return self.contains(&inner.key);
        }
        if self.is_single() || inner.key < self.key {
            return false;
        }
        self.is_open_ended() || (!inner.is_open_ended() && inner.range_end <= self.range_end)
    }

    /// The range as bounds of an ordered map; `None` when it can hold no key.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        let key = Bound::Included(&self.key[..]);
        if self.is_single() {
            return Some((key, Bound::Included(&self.key[..])));
        }
        if self.is_open_ended() {
            return Some((key, Bound::Unbounded));
        }
        (self.key < self.range_end).then_some((key, Bound::Excluded(&self.range_end[..])))
    }
}

/// The first key after all keys with this prefix; `None` when there is none (only 0xff bytes).
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_is_incremented() {
        assert_eq!(KeyRange::prefix("cilium/"), KeyRange::new("cilium/", "cilium0"));
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]), KeyRange::new(&b"a\xff"[..], "b"));
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]), KeyRange::from_key(&b"\xff\xff"[..]));
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }

    #[test]
    fn only_an_exact_prefix_is_recognised_as_one() {
        assert_eq!(KeyRange::prefix("a/").as_prefix(), Some(&b"a/"[..]));
        assert_eq!(KeyRange::new("a/", "b").as_prefix(), None);
        assert_eq!(KeyRange::single("a/").as_prefix(), None);
        assert_eq!(KeyRange::all().as_prefix(), None);
    }

    #[test]
    fn enclosing_needs_both_ends_inside() {
        let granted = KeyRange::prefix("cilium/state/");
        assert!(granted.encloses(&KeyRange::prefix("cilium/state/ip/")));
        assert!(granted.encloses(&KeyRange::single("cilium/state/x")));
        assert!(granted.encloses(&granted.clone()));
        assert!(!granted.encloses(&KeyRange::from_key("cilium/state/")));
        assert!(!granted.encloses(&KeyRange::prefix("cilium/")));
        assert!(!granted.encloses(&KeyRange::single("cilium/other")));
        assert!(KeyRange::all().encloses(&KeyRange::from_key("z")));
        assert!(!KeyRange::single("a").encloses(&KeyRange::prefix("a")));
        assert!(KeyRange::single("a").encloses(&KeyRange::single("a")));
    }
}
