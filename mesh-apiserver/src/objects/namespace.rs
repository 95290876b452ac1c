//! Namespace: its labels become part of its pods' identities, its annotations say who may have what is in it.

use serde::Deserialize;

use super::Meta;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Namespace {
    pub metadata: Meta,
    /// Its manifest is there and says something else than a Namespace can: only its name is known.
    #[serde(skip)]
    pub is_unreadable: bool,
}
