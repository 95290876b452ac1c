//! Calls to other replicas: addresses, envelopes, deadlines.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::rpc::{self, Answer, Call, Envelope, Refusal};
use super::transport::{MAX_MESSAGE_BYTES, Transport, TransportError};
use super::types::{NodeId, Peer};

/// A call that brought no answer of the expected kind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("replica {id} did not answer within {timeout:?}")]
    TimedOut { id: NodeId, timeout: Duration },
    #[error("replica {id} refused: {refusal}")]
    Refused { id: NodeId, refusal: Refusal },
    #[error("this leader keeps silent, because no quorum has answered it for a while")]
    Silent,
    #[error("the message of {bytes} bytes is too large")]
    TooLarge { bytes: usize },
    #[error("the answer of replica {id} is not one to this call")]
    Garbled { id: NodeId },
}

impl CallError {
    /// True when the other side has certainly done nothing.
    pub(crate) fn is_not_done(&self) -> bool {
        match self {
            Self::Transport(TransportError::Unreachable { .. }) | Self::Silent | Self::TooLarge { .. } => true,
            Self::Refused { refusal, .. } => !matches!(refusal, Refusal::LostLeadership | Refusal::Failed { .. }),
            Self::Transport(TransportError::Broken { .. }) | Self::TimedOut { .. } | Self::Garbled { .. } => false,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    id: NodeId,
    transport: Arc<dyn Transport>,
    /// 0 until this replica belongs to a group.
    cluster_id: AtomicU64,
    /// No entries and heartbeats are sent while it is set.
    silent: AtomicBool,
    /// When each replica last answered.
    answered: Mutex<HashMap<NodeId, Instant>>,
}

impl Peers {
    pub(crate) fn new(id: NodeId, transport: Arc<dyn Transport>, cluster_id: u64) -> Self {
        let shared = Shared {
            id,
            transport,
            cluster_id: AtomicU64::new(cluster_id),
            silent: AtomicBool::new(false),
            answered: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.shared.id
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.shared.cluster_id.load(Ordering::Acquire)
    }

    pub(crate) fn set_cluster_id(&self, cluster_id: u64) {
        self.shared.cluster_id.store(cluster_id, Ordering::Release);
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Release);
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.shared.silent.load(Ordering::Acquire)
    }

    /// True if the replica has answered within the last while.
    pub(crate) fn is_alive(&self, id: NodeId, within: Duration) -> bool {
        self.shared.answered.lock().get(&id).is_some_and(|at| at.elapsed() <= within)
    }

    pub(crate) async fn call(
        &self,
        to: NodeId,
        peer: &Peer,
        call: Call,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        // Before there is a group, nothing can be said about it.
        let cluster_id = match call {
            Call::Found { .. } | Call::Join { .. } => 0,
            _ => self.cluster_id(),
        };
        let envelope = Envelope { cluster_id, from: self.shared.id, to, call };
        let Ok(message) = rpc::encode(&envelope) else { return Err(CallError::TooLarge { bytes: usize::MAX }) };
        drop(envelope);
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(CallError::TooLarge { bytes: message.len() });
        }
        let member = peer.member(to, false);
        let called = tokio::time::timeout(timeout, self.shared.transport.call(&member, message, timeout)).await;
        let Ok(called) = called else { return Err(CallError::TimedOut { id: to, timeout }) };
        let answer = rpc::decode(&called?).ok_or(CallError::Garbled { id: to })?;
        self.shared.answered.lock().insert(to, Instant::now());
        match answer {
            Answer::Refused(refusal) => Err(CallError::Refused { id: to, refusal }),
            answer => Ok(answer),
        }
    }
}
