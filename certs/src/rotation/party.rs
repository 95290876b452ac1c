//! Who takes part in a rotation, and what each says that it holds.

use std::collections::BTreeSet;
use std::fmt;

use crate::ca_hash::CaHash;

/// Who must acknowledge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A replica of the cluster's API server, by number.
    Replica(u64),
    /// The agent of a node of the cluster.
    Agent(String),
    /// A joined cluster.
    Peer(String),
}

/// What a party holds of the cluster that rotates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The CAs that it trusts for the cluster.
    pub trusts: BTreeSet<CaHash>,
    /// The CAs that signed the leaves which it presents; of no account for a peer.
    pub presents: BTreeSet<CaHash>,
    /// The CAs whose keys it can sign with; replicas only.
    pub keys: BTreeSet<CaHash>,
}

/// What is known of a party now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub party: Party,
    /// `None`: it cannot be asked now.
    pub held: Option<Held>,
    /// Why that is, or what keeps it from following. May be empty otherwise.
    pub note: String,
}

/// What a stage waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub party: Party,
    pub what: String,
}

impl Report {
    pub fn silent(party: Party, why: impl Into<String>) -> Self {
        Self { party, held: None, note: why.into() }
    }

    pub(super) fn missing(&self, what: impl Into<String>) -> Missing {
        Missing { party: self.party.clone(), what: what.into() }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(number) => write!(f, "replica {number}"),
            Self::Agent(node) => write!(f, "agent {node}"),
            Self::Peer(cluster) => write!(f, "peer {cluster}"),
        }
    }
}
