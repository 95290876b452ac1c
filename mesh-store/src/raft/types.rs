//! openraft's type parameters for this store, and what travels through the log.

use std::sync::Arc;

use mesh_store_mvcc::{Command, Response};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::backend::{Error, Member};

pub(crate) type NodeId = u64;

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = NodeId,
        Node = Peer,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = tokio::fs::File,
        Responder = Answer,
        AsyncRuntime = openraft::TokioRuntime,
);

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

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIoError = openraft::StorageIOError<NodeId>;
pub(crate) type Membership = openraft::StoredMembership<NodeId, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Peer>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;

/// The result of one command.
pub(crate) type CommandResult = Result<Response, mesh_store_mvcc::Error>;

/// One log entry: the commands of as many clients as were waiting when it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) content: Content,
    #[serde(skip)]
    pub(crate) waiters: Waiters,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// The first entry of a new store gives it its number. Later ones change nothing.
    Genesis {
        cluster_id: u64,
    },
    Commands(Arc<[Command]>),
}

/// The results of one entry, when nobody on this replica waited inside the entry itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    #[serde(skip)]
    pub(crate) results: Vec<CommandResult>,
}

/// The clients that wait for an entry. Whoever gets to it first answers them: the state machine, right after applying
/// (openraft would answer only when its core, which may be waiting for the disk by then, comes round), or [`Answer`].
#[derive(Clone, Default)]
pub(crate) struct Waiters(Arc<Mutex<Option<Waiting>>>);

struct Waiting {
    replies: Vec<oneshot::Sender<Result<Response, Error>>>,
    /// Room for another entry on its way to the disk; given back when this one is answered.
    _permit: OwnedSemaphorePermit,
}

impl Waiters {
    pub(crate) fn new(replies: Vec<oneshot::Sender<Result<Response, Error>>>, permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(Waiting { replies, _permit: permit }))))
    }

    /// Answers all clients; hands the results back when nobody waits here (any more).
    pub(crate) fn complete(&self, results: Vec<CommandResult>) -> Option<Vec<CommandResult>> {
        let Some(waiting) = self.0.lock().take() else { return Some(results) };
        for (reply, result) in waiting.replies.into_iter().zip(results) {
            // A client that has gone away does not want its answer.
            drop(reply.send(result.map_err(Error::from)));
        }
        None
    }

    pub(crate) fn fail(&self, error: &Error) {
        let Some(waiting) = self.0.lock().take() else { return };
        for reply in waiting.replies {
            drop(reply.send(Err(error.clone())));
        }
    }
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiters")
    }
}

/// openraft's way to answer a proposal; what matters here is that it fails the clients when there will be no answer.
pub(crate) struct Answer {
    waiters: Waiters,
}

impl openraft::raft::responder::Responder<TypeConfig> for Answer {
    type Receiver = ();

    fn from_app_data(proposal: Proposal) -> (Proposal, Self, ()) {
        let waiters = proposal.waiters.clone();
        (proposal, Self { waiters }, ())
    }

    fn send(self, result: openraft::raft::ClientWriteResult<TypeConfig>) {
        match result {
            Ok(response) => drop(self.waiters.complete(response.data.results)),
            Err(error) => {
                tracing::debug!(%error, "proposal refused by raft");
                self.waiters.fail(&Error::NoLeader);
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.waiters.fail(&Error::Stopped);
    }
}
