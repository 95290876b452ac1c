//! Small random damage to inputs, repeatable from a seed.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Bytes that mean something in protobuf and in keys: field tags, ends of ranges, ends of numbers.
const TELLING: [u8; 12] = [0, 1, 2, 3, 0x08, 0x0a, 0x10, 0x12, 0x1a, 0x7f, 0x80, 0xff];
const LONGEST: usize = 4096;

pub(super) struct Mutator(StdRng);

impl Mutator {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// One of the corpus, damaged in one to eight places.
    pub(super) fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(8) {
            self.damage(&mut bytes, corpus);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n.max(1))
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = TELLING[self.below(TELLING.len())],
            2 if !bytes.is_empty() => bytes[at] = self.0.random(),
            3 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
            4 if !bytes.is_empty() => {
                let end = (at + 1 + self.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 if !bytes.is_empty() => {
                let end = (at + 1 + self.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
