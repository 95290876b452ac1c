//! Reading as Go reads: `null` means "left out".

use serde::{Deserialize, Deserializer};

/// For fields that Go writes as `null` when empty.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
pub(super) fn is_false(fact: &bool) -> bool {
    !*fact
}
