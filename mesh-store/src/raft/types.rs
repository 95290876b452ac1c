//! openraft's type parameters for this store, and what travels through the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_store_mvcc::{Command, Response};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::disk::DiskCursor;
use crate::backend::Member;

pub(crate) type NodeId = u64;

openraft::declare_raft_types!(
    pub(crate) StoreTypes:
        D = Proposal,
        R = (),
        NodeId = NodeId,
        Node = Peer,
        Entry = openraft::Entry<StoreTypes>,
        SnapshotData = DiskCursor,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Entry = openraft::Entry<StoreTypes>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIoError = openraft::StorageIOError<NodeId>;
pub(crate) type Membership = openraft::StoredMembership<NodeId, Peer>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<NodeId, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Peer>;
pub(crate) type Raft = openraft::Raft<StoreTypes>;

/// The result of one command.
pub(crate) type CommandResult = Result<Response, mesh_store_mvcc::Error>;

/// What the group knows of a replica beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) urls: Vec<String>,
    pub(crate) client_urls: Vec<String>,
    /// A learner that gets its vote as soon as it has caught up.
    pub(crate) promote: bool,
}

impl Peer {
    pub(crate) fn member(&self, id: NodeId, is_learner: bool) -> Member {
        let Self { name, urls, client_urls, .. } = self.clone();
        Member { id, name, peer_urls: urls, client_urls, is_learner }
    }
}

impl From<Member> for Peer {
    fn from(member: Member) -> Self {
        let Member { name, peer_urls, client_urls, is_learner, .. } = member;
        Self { name, urls: peer_urls, client_urls, promote: !is_learner }
    }
}

/// One log entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) content: Content,
    #[serde(skip)]
    pub(crate) slot: Slot,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// Gives a new store its number. Later ones change nothing.
    Genesis { cluster_id: u64 },
    /// The commands of as many clients, of as many replicas, as were waiting when the entry was made.
    Parts(Arc<[Part]>),
}

impl Proposal {
    pub(crate) fn new(content: Content) -> Self {
        Self { content, slot: Slot::default() }
    }

    /// Roughly the bytes it takes in a message.
    pub(crate) fn weight(&self) -> usize {
        match &self.content {
            Content::Genesis { .. } => 16,
            Content::Parts(parts) => parts.iter().map(Part::weight).sum(),
        }
    }
}

/// Commands that one replica brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) origin: Origin,
    pub(crate) commands: Arc<[Command]>,
}

impl Part {
    pub(crate) fn weight(&self) -> usize {
        self.commands.iter().map(Command::weight).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// Clients of a replica, which waits for the part under this ticket and may bring it several times.
    Clients(Ticket),
    /// A decision of the leader of this term (a lease has run out): void in an entry of any other term, because the next
    /// leader may know better.
    Leader { term: u64 },
}

/// Names a part for ever: it is executed once, however often it gets into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) replica: NodeId,
    /// Which run of the replica's process; a number never used before.
    pub(crate) boot: u64,
    pub(crate) seq: u64,
    /// Everything of this run below it has been answered and is not wanted any more.
    pub(crate) answered: u64,
}

/// Room for another entry on its way to the disk; and whether this entry got as far as the log. Shared by all clones of an
/// entry on the leader that made it, and empty everywhere else.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Taken>);

#[derive(Default)]
struct Taken {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    logged: AtomicBool,
}

impl Slot {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Taken { permit: Mutex::new(Some(permit)), logged: AtomicBool::new(false) }))
    }

    pub(crate) fn release(&self) {
        self.0.permit.lock().take();
    }

    /// From now on the entry may be committed, by this leader or a later one.
    pub(crate) fn note_logged(&self) {
        self.0.logged.store(true, Ordering::Release);
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.0.logged.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}
