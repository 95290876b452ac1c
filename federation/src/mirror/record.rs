//! The resume point: how far a peer's store has been mirrored. Read by the session after a restart, by the merged view for
//! the peer's clock, and by status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::Resource;
use crate::contract::cluster_config::Capabilities;

/// `isthmus/v1/mirror/<cluster>`, JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorRecord {
    /// The peer's cluster id when this was mirrored; 0 in records of older versions.
    pub id: u32,
    /// [`crate::contract::validate::Rules::fingerprint`] of what the peer could say when this was mirrored; 0 in records of
    /// older versions.
    #[serde(skip_serializing_if = "is_none")]
    pub rules: u64,
    /// When it ceased to be a peer, by the clock of who noticed. 0 while it is one, again from when it has told its
    /// configuration.
    #[serde(skip_serializing_if = "is_none")]
    pub parted_unix_nanos: u64,
    /// The peer's store; 0 before the first connection. Another number means that all revisions are void.
    pub source_cluster_id: u64,
    /// Per watch: everything up to this revision of the peer's store is mirrored.
    pub revisions: BTreeMap<String, i64>,
    /// The peer's clock at its newest exporting Txn that is mirrored; 0 where it has none.
    pub clock_unix_nanos: u64,
    /// The peer's facts are read from its `cache/` keys.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_cached: bool,
    /// Revision of the import rules' record (of the own store) by which what is mirrored was chosen; 0: there was none.
    #[serde(skip_serializing_if = "is_zero")]
    pub imports_revision: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(revision: &i64) -> bool {
    *revision == 0
}

/// What a session watches at a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    Config,
    Canaries,
    Heartbeat,
    Resource(Resource),
    /// Last, so that at a source that serves watches in order the clock follows the facts it dates.
    Export,
}

impl Watched {
    pub const ALL: [Self; 10] = [
        Self::Config,
        Self::Canaries,
        Self::Heartbeat,
        Self::Resource(Resource::Identities),
        Self::Resource(Resource::Nodes),
        Self::Resource(Resource::Ip),
        Self::Resource(Resource::Services),
        Self::Resource(Resource::ServiceExports),
        Self::Resource(Resource::EndpointSlices),
        Self::Export,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "cluster-config",
            Self::Canaries => "synced",
            Self::Heartbeat => "heartbeat",
            Self::Resource(resource) => resource.name(),
            Self::Export => "export",
        }
    }

    /// A peer that is not Isthmus does not have it.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::Export)
    }

    /// Whether a peer that can do this is watched for it.
    pub fn is_wanted(self, capabilities: &Capabilities) -> bool {
        match self {
            Self::Resource(resource) => capabilities.exports(resource),
            other => !other.is_optional(),
        }
    }

    /// Every peer has it, whatever it can do.
    const fn is_everywhere(self) -> bool {
        !matches!(
            self,
            Self::Export | Self::Resource(Resource::Services | Resource::ServiceExports | Resource::EndpointSlices)
        )
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl MirrorRecord {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    pub fn revision(&self, watched: Watched) -> Option<i64> {
        self.revisions.get(watched.name()).copied()
    }

    /// Whether this kind has been mirrored completely once.
    pub fn is_synced(&self, resource: Resource) -> bool {
        self.revision(Watched::Resource(resource)).is_some()
    }

    /// Whether the peer has been mirrored: a session can go on from here.
    pub fn is_resumable(&self) -> bool {
        let has_backends = self.is_synced(Resource::Services) || self.is_synced(Resource::EndpointSlices);
        let is_everywhere = Watched::ALL.into_iter().filter(|watched| watched.is_everywhere());
        self.source_cluster_id != 0 && has_backends && is_everywhere.into_iter().all(|w| self.revision(w).is_some())
    }

    /// The newest revision of the peer's store that something was mirrored from.
    pub fn newest_revision(&self) -> i64 {
        self.revisions.values().copied().max().unwrap_or(0)
    }

    /// Moves a watch forward, never back.
    pub(super) fn advance(&mut self, watched: Watched, revision: i64) {
        let known = self.revisions.entry(watched.name().to_owned()).or_insert(revision);
        *known = revision.max(*known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_resumes_only_when_every_watch_has_a_revision() {
        let mut record = MirrorRecord { source_cluster_id: 9, ..MirrorRecord::default() };
        let services = Watched::Resource(Resource::Services);
        for watched in Watched::ALL.into_iter().filter(|w| w.is_everywhere() || *w == services) {
            assert!(!record.is_resumable());
            record.advance(watched, 5);
        }
        assert!(record.is_resumable());
        record.advance(Watched::Config, 4);
        assert_eq!(record.revision(Watched::Config), Some(5), "never back");
        assert_eq!(MirrorRecord::decode(&record.encode()).unwrap(), record);
        let in_slices = Watched::Resource(Resource::EndpointSlices);
        record.revisions.remove(services.name());
        assert!(!record.is_resumable());
        record.advance(in_slices, 5);
        assert!(record.is_resumable(), "backends in slices alone");
        record.source_cluster_id = 0;
        assert!(!record.is_resumable());
    }
}
