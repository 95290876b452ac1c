//! Ranges of the one flat array that holds all Maglev tables: best fit, joined with their free neighbours when given back.

use std::collections::{BTreeMap, BTreeSet};

/// The free ranges.
///
/// # Invariants
/// - `by_offset` and `by_len` hold the same ranges; no two of them touch or overlap.
#[derive(Debug)]
pub struct Slab {
    by_offset: BTreeMap<u32, u32>,
    by_len: BTreeSet<(u32, u32)>,
    free: u32,
}

impl Slab {
    pub fn new(capacity: u32) -> Self {
        let mut slab = Self { by_offset: BTreeMap::new(), by_len: BTreeSet::new(), free: 0 };
        if capacity > 0 {
            slab.insert(0, capacity);
        }
        slab
    }

    /// A range of `len` entries; `None` when no free range is large enough.
    pub fn allocate(&mut self, len: u32) -> Option<u32> {
        let (found, offset) = *self.by_len.range((len, 0)..).next()?;
        self.remove(offset, found);
        if found > len {
            self.insert(offset + len, found - len);
        }
        Some(offset)
    }

    /// Takes exactly this range, for a table found in the kernel. Whether it was free.
    pub fn reserve(&mut self, offset: u32, len: u32) -> bool {
        let Some((start, found)) = self.by_offset.range(..=offset).next_back().map(|(s, l)| (*s, *l)) else {
            return false;
        };
        let (Some(end), Some(found_end)) = (offset.checked_add(len), start.checked_add(found)) else { return false };
        if len == 0 || end > found_end {
            return false;
        }
        self.remove(start, found);
        if offset > start {
            self.insert(start, offset - start);
        }
        if found_end > end {
            self.insert(end, found_end - end);
        }
        true
    }

    /// Gives a range back that [`Self::allocate`] or [`Self::reserve`] gave out.
    pub fn release(&mut self, offset: u32, len: u32) {
        let (mut start, mut total) = (offset, len);
        if let Some((before, found)) = self.by_offset.range(..offset).next_back().map(|(s, l)| (*s, *l))
            && before + found == offset
        {
            self.remove(before, found);
            (start, total) = (before, total + found);
        }
        if let Some(found) = self.by_offset.get(&(offset + len)).copied() {
            self.remove(offset + len, found);
            total += found;
        }
        self.insert(start, total);
    }

    /// Free entries in all.
    pub fn free(&self) -> u32 {
        self.free
    }

    fn insert(&mut self, offset: u32, len: u32) {
        self.by_offset.insert(offset, len);
        self.by_len.insert((len, offset));
        self.free += len;
    }

    fn remove(&mut self, offset: u32, len: u32) {
        self.by_offset.remove(&offset);
        self.by_len.remove(&(len, offset));
        self.free -= len;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_are_joined_when_given_back() {
        let mut slab = Slab::new(300);
        let [a, b, c] = [(); 3].map(|()| slab.allocate(100).unwrap());
        assert_eq!(slab.allocate(1), None);
        slab.release(a, 100);
        slab.release(c, 100);
        assert_eq!(slab.allocate(101), None);
        slab.release(b, 100);
        assert_eq!(slab.allocate(300), Some(0));
    }

    #[test]
    fn a_range_found_in_the_kernel_is_taken_once() {
        let mut slab = Slab::new(1_000);
        assert!(slab.reserve(127, 127));
        assert!(!slab.reserve(200, 10) && !slab.reserve(990, 20) && !slab.reserve(u32::MAX, 5));
        assert_eq!(slab.allocate(127), Some(0), "the smallest range that fits");
        slab.release(127, 127);
        slab.release(0, 127);
        assert_eq!((slab.free(), slab.by_offset.len()), (1_000, 1));
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_all_come_back(steps in prop::collection::vec((1_u32..200, any::<bool>()), 1..200)) {
            let mut slab = Slab::new(4_096);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (len, give_back) in steps {
                if give_back && !held.is_empty() {
                    let (offset, len) = held.swap_remove(len as usize % held.len());
                    slab.release(offset, len);
                } else if let Some(offset) = slab.allocate(len) {
                    prop_assert!(offset + len <= 4_096);
                    prop_assert!(held.iter().all(|(o, l)| offset + len <= *o || o + l <= offset));
                    held.push((offset, len));
                }
                prop_assert_eq!(slab.free() + held.iter().map(|(_, l)| l).sum::<u32>(), 4_096);
            }
            for (offset, len) in held {
                slab.release(offset, len);
            }
            prop_assert_eq!(slab.by_offset.len(), 1);
        }
    }
}
