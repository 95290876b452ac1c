//! Security identities: which labels count ([`filter`]), and which number a label set has ([`allocator`]).
//!
//! Pure. Numbers are persisted by the exporter, in the same Txn as the address that needs them.

pub mod allocator;
pub mod filter;
pub mod record;

pub use allocator::{Allocator, Exhausted};
pub use record::Record;
