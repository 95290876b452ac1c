//! The files of a replica from bytes that nobody meant: they are refused with a reason, or what they hold is whole.

pub use super::log::hostile::{run as log, seeds as log_seeds};
pub use super::snapshot::hostile::{run as snapshot, seeds as snapshot_seeds};
