//! Where every random number of this process comes from: a counter, scrambled.
//!
//! Hash maps and tokio's `select!` take randomness from the system, so a seed would not be enough to run the same again. The
//! standard library asks for it through a weak symbol so that it can be replaced ("A weak symbol allows interposition",
//! `std/src/sys/random/linux.rs`), and so do the crates: this is the replacement. It holds for every program that links this
//! package, which are its own tests.

#![expect(unsafe_code, reason = "a symbol of the C library is replaced, with its signature")]

use std::ffi::c_uint;
use std::sync::atomic::{AtomicU64, Ordering};

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// From here on this process draws what belongs to a seed.
pub fn seed(seed: u64) {
    DRAWN.store(scramble(seed), Ordering::Relaxed);
}

/// SplitMix64's output function.
fn scramble(from: u64) -> u64 {
    let mixed = (from ^ (from >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// getrandom(2): always as many bytes as wanted.
// SAFETY: the name is the C library's, and so are the signature and the meaning.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: c_uint) -> isize {
    for at in 0..len {
        let drawn = scramble(DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)).to_le_bytes()[0];
        // SAFETY: the caller hands over a buffer of `len` bytes.
        unsafe { buffer.add(at).write(drawn) };
    }
    isize::try_from(len).unwrap_or(isize::MAX)
}
