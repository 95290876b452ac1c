//! Namespace: its labels become part of its pods' identities, its annotations say who may have what is in it.

use serde::Deserialize;

use super::Meta;
use super::meta::null_as_default;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Namespace {
    pub metadata: Meta,
    #[serde(default, deserialize_with = "null_as_default")]
    status: Status,
    /// Its manifest is there and says something else than a Namespace can: only its name is known.
    #[serde(skip)]
    pub is_unreadable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl Namespace {
    /// Of this name, as somebody wrote it who could not be understood: see [`Self::is_unreadable`].
    pub fn unreadable(metadata: Meta) -> Self {
        Self { metadata, status: Status::default(), is_unreadable: true }
    }

    /// It is being deleted: nothing can be made in it.
    pub fn is_terminating(&self) -> bool {
        self.status.phase == "Terminating"
    }
}
