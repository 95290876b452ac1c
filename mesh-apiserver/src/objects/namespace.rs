//! Namespace: its labels become part of its pods' identities.

use serde::Deserialize;

use super::Meta;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Namespace {
    pub metadata: Meta,
}
