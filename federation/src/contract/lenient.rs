//! Reading as Go reads: `null` means "left out", and a list is no object.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::Error;

/// Reads the object that a value is. serde would take a list of a struct's fields for it as well, which Go refuses.
pub(super) fn object<T: DeserializeOwned>(kind: &'static str, value: &[u8]) -> Result<T, Error> {
    let read = match value.trim_ascii_start().first() {
        Some(b'[') => Err(serde_json::Error::custom("a list where an object belongs")),
        _ => serde_json::from_slice(value),
    };
    read.map_err(|source| Error::Json { kind, source })
}

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
