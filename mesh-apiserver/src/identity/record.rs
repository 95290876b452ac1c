//! What is persisted of an allocated number, and where.

use mesh_types::{LabelSet, SecurityIdentity};
use serde::{Deserialize, Serialize};

/// Number to [`Record`].
pub const BY_NUMBER: &str = "isthmus/v1/identity/id/";
/// Labels to number.
pub const BY_LABELS: &str = "isthmus/v1/identity/labels/";

/// The value of `isthmus/v1/identity/id/<number>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Cilium's sorted list.
    pub labels: String,
    /// When the last address with these labels went; the number stays taken for the quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_unix_nanos: Option<u64>,
}

/// A stored record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("identity record {key}: not a number and its labels")]
    Json { key: String, source: serde_json::Error },
    #[error("identity record {key}: the key does not end in a number")]
    Number { key: String },
    #[error("identity record {key}: the labels are not in sorted form")]
    Labels { key: String, source: mesh_types::labels::Error },
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub fn decode(key: &str, value: &[u8]) -> Result<(SecurityIdentity, LabelSet, Self), Error> {
        let number = key.strip_prefix(BY_NUMBER).and_then(|n| n.parse().ok());
        let number = number.ok_or_else(|| Error::Number { key: key.to_owned() })?;
        let record: Self =
            serde_json::from_slice(value).map_err(|source| Error::Json { key: key.to_owned(), source })?;
        let labels = LabelSet::parse_sorted_list(&record.labels)
            .map_err(|source| Error::Labels { key: key.to_owned(), source })?;
        Ok((SecurityIdentity(number), labels, record))
    }
}
