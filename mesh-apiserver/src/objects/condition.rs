//! A condition of an object's status (`metav1.Condition`).

use serde::{Deserialize, Serialize};

use super::meta::null_as_default;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    /// The generation of the object that it was said of.
    pub observed_generation: i64,
    /// RFC 3339: when `status` became what it is.
    pub last_transition_time: String,
}

/// The part of a status that holds conditions.
#[derive(Default, Deserialize)]
pub(super) struct Status {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) conditions: Vec<Condition>,
}
