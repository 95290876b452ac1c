//! What the program tells.

use std::fmt;

use serde::Deserialize;

/// A line of its output. What does not belong to a step is empty.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    #[serde(skip)]
    line: String,
    #[serde(rename = "step")]
    pub(super) name: String,
    pub(super) address: String,
    pub(super) cluster_id: u64,
    pub(super) resource: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) value: String,
    /// Found by listing, not told by a watch.
    pub(super) listed: bool,
    /// The value that the key had before.
    pub(super) unchanged: bool,
    pub(super) revision: i64,
    pub(super) version: i64,
    pub(super) keys: usize,
    pub(super) pages: usize,
    pub(super) reason: String,
}

impl Step {
    pub(super) fn parse(line: String) -> serde_json::Result<Self> {
        let step = serde_json::from_str(&line)?;
        Ok(Self { line, ..step })
    }

    pub(super) fn is(&self, step: &str) -> bool {
        self.name == step
    }

    pub(super) fn is_of(&self, step: &str, resource: &str) -> bool {
        self.name == step && self.resource == resource
    }

    /// An event of this kind (create, modify, delete).
    pub(super) fn is_event(&self, kind: &str, key: &str) -> bool {
        self.name == "event" && self.kind == kind && self.key == key
    }
}

/// As it was told.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
