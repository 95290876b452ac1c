//! Small random choices over a small world: few keys, so that requests meet.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::resolve::{FLOOR, NOW};

const KEYS: [&[u8]; 20] = [
    b"a",
    b"a\0",
    b"a/1",
    b"a/2",
    b"a/3",
    b"ab",
    b"b",
    b"b/1",
    b"b/2",
    b"c",
    b"d",
    b"d/x",
    b"d/y",
    b"e",
    b"f",
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"k1",
    b"k2",
];
const ENDS: [&[u8]; 8] = [b"a0", b"b", b"b0", b"c", b"d0", b"z", b"\xff", b"a\0\0"];
const VALUES: [&[u8]; 5] = [b"", b"x", b"y", b"yy", b"a longer value"];

/// Ids of the leases that a sequence grants.
pub(crate) const LEASES: [i64; 5] = [101, 102, 103, 1 << 62, -7];

pub(crate) struct Pick(pub(crate) StdRng);

impl Pick {
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.0.random_ratio(1, n)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        *all.choose(&mut self.0).expect("a choice is never among nothing")
    }

    pub(crate) fn key(&mut self) -> Vec<u8> {
        if self.one_in(60) { Vec::new() } else { self.of(&KEYS).to_vec() }
    }

    /// Mostly one key, else a prefix, everything from a key on, or any two ends.
    pub(crate) fn range(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        match self.below(10) {
            0..4 => (key, Vec::new()),
            4..6 => (key, b"\0".to_vec()),
            6 => (b"\0".to_vec(), b"\0".to_vec()),
            7 => {
                let mut end = key.clone();
                if let Some(last) = end.last_mut() {
                    *last = last.saturating_add(1);
                }
                (key, end)
            }
            8 => (key, self.of(&ENDS).to_vec()),
            _ => (key, self.key()),
        }
    }

    pub(crate) fn value(&mut self) -> Vec<u8> {
        self.of(&VALUES).to_vec()
    }

    pub(crate) fn lease(&mut self) -> i64 {
        if self.one_in(3) { self.of(&LEASES) } else { 0 }
    }

    /// Mostly now; else a little back, around the compaction, ahead, or negative.
    pub(crate) fn revision(&mut self) -> i64 {
        match self.below(20) {
            0..10 => 0,
            10..15 => NOW - i64::try_from(self.below(12)).unwrap_or(0),
            15 | 16 => FLOOR + i64::try_from(self.below(3)).unwrap_or(0) - 1,
            17 => NOW + 1 + i64::try_from(self.below(2)).unwrap_or(0),
            18 => -1 - i64::try_from(self.below(2)).unwrap_or(0),
            _ => 1,
        }
    }

    /// A bound of a filter: mostly none.
    pub(crate) fn bound(&mut self) -> i64 {
        match self.below(12) {
            0 => NOW - i64::try_from(self.below(20)).unwrap_or(0),
            1 => self.of(&[1, -1, 5, NOW + 3]),
            _ => 0,
        }
    }
}
