//! Reconcilers: they make the kernel's maps say what `compile` says, touching only what differs.
//!
//! # Invariants
//! - Each map has one writer, the reconciler here.
//! - What the kernel held at the start is adopted; leftovers go only in `prune`, after the first whole snapshot.
//! - An object that fails keeps what the kernel has for it, is reported, and is tried again; the others go on.

pub mod failures;
pub mod key_value;
pub mod numbers;
pub mod services;
pub mod slab;

pub use failures::Failures;
