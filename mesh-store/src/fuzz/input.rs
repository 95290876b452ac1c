//! Taking an input apart.

/// What is left of an input. Beyond its end there are zeroes.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.piece(1).first().copied().unwrap_or(0)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn is_one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    pub fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        let piece = self.piece(8);
        number[..piece.len()].copy_from_slice(piece);
        u64::from_le_bytes(number)
    }

    /// The next `len` bytes, or what there is.
    pub fn piece(&mut self, len: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}
