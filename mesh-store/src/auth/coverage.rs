//! Which keys a set of ranges covers together. Pure.
//!
//! etcd asks whether a request lies inside the *union* of what is granted (`server/auth/range_perm_cache.go`), so two
//! adjacent ranges permit a read across both. Here the union is made once, and what is reserved is cut out of it.

use bytes::Bytes;
use mesh_store_mvcc::KeyRange;

/// `[start, end)`; no end is the end of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

/// The fewest ranges that cover what `ranges` cover together and nothing that starts with `reserved`. In key order.
pub(super) fn covered<'a>(ranges: impl IntoIterator<Item = &'a KeyRange>, reserved: &str) -> Vec<KeyRange> {
    let mut spans: Vec<Span> = ranges.into_iter().filter_map(span).collect();
    spans.sort_by(|a, b| a.start.cmp(&b.start));
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.reaches(&span.start) => last.extend(span.end),
            _ => merged.push(span),
        }
    }
    let hole = span(&KeyRange::prefix(reserved.to_owned())).filter(|_| !reserved.is_empty());
    merged.into_iter().flat_map(|span| span.without(hole.as_ref())).map(Span::range).collect()
}

/// `None` for a range without keys.
fn span(range: &KeyRange) -> Option<Span> {
    let start = range.key.clone();
    if range.is_single() {
        let end = Some([&start[..], b"\0"].concat().into());
        return Some(Span { start, end });
    }
    let end = (!range.is_open_ended()).then(|| range.range_end.clone());
    end.as_ref().is_none_or(|end| start < *end).then_some(Span { start, end })
}

impl Span {
    /// True when no key lies between this span's end and `start`.
    fn reaches(&self, start: &Bytes) -> bool {
        self.end.as_ref().is_none_or(|end| start <= end)
    }

    fn extend(&mut self, end: Option<Bytes>) {
        self.end = match (self.end.take(), end) {
            (Some(own), Some(other)) => Some(own.max(other)),
            _ => None,
        };
    }

    fn without(self, hole: Option<&Self>) -> Vec<Self> {
        let Some(hole) = hole else { return vec![self] };
        let is_after = |end: &Option<Bytes>, start: &Bytes| end.as_ref().is_none_or(|end| end > start);
        if !is_after(&self.end, &hole.start) || !is_after(&hole.end, &self.start) {
            return vec![self];
        }
        let before =
            (self.start < hole.start).then(|| Self { start: self.start.clone(), end: Some(hole.start.clone()) });
        let after =
            hole.end.clone().filter(|end| is_after(&self.end, end)).map(|end| Self { start: end, end: self.end });
        before.into_iter().chain(after).collect()
    }

    fn range(self) -> KeyRange {
        match self.end {
            Some(end) => KeyRange::new(self.start, end),
            None => KeyRange::from_key(self.start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(start, end)
    }

    #[test]
    fn ranges_that_touch_or_overlap_are_one() {
        let given = [range("m", "p"), range("a", "c"), range("c", "e"), range("b", "d"), KeyRange::single("x")];
        assert_eq!(covered(&given, "isthmus/"), [range("a", "e"), range("m", "p"), range("x", "x\0")]);
        assert_eq!(covered(&[KeyRange::single("a"), range("a\0", "b")], "isthmus/"), [range("a", "b")]);
        assert_eq!(covered(&[KeyRange::from_key("k"), range("n", "p")], "isthmus/"), [KeyRange::from_key("k")]);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_covers_nothing() {
        assert_eq!(covered(&[range("c", "a"), range("c", "c")], "isthmus/"), []);
    }

    #[test]
    fn what_is_reserved_is_cut_out() {
        let all = covered(&[KeyRange::all()], "isthmus/");
        assert_eq!(all, [KeyRange::new("\0", "isthmus/"), KeyRange::from_key("isthmus0")]);
        assert_eq!(covered(&[range("isthmus/v1/", "isthmus/v2")], "isthmus/"), []);
        assert_eq!(covered(&[KeyRange::single("isthmus/v1/auth")], "isthmus/"), []);
        assert_eq!(covered(&[range("a", "isthmus/v1")], "isthmus/"), [range("a", "isthmus/")]);
        assert_eq!(covered(&[range("isthmus/v1", "z")], "isthmus/"), [range("isthmus0", "z")]);
        assert_eq!(covered(&[range("a", "b"), range("j", "k")], "isthmus/"), [range("a", "b"), range("j", "k")]);
    }
}
