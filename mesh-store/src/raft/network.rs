//! openraft's way to other replicas, over [`Peers`].

use std::future::Future;
use std::time::Duration;

use openraft::error::{
    Fatal, InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, SnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot};

use super::peers::{CallError, Peers};
use super::rpc::{Answer, Call};
use super::snapshot_send;
use super::types::{NodeId, Peer, StoreTypes, Vote};

/// How long a replica that is not there is left alone: short, so that one that comes back is heard of soon.
const RETRY_UNREACHABLE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Peers,
}

pub(crate) struct Connection {
    peers: Peers,
    target: NodeId,
    peer: Peer,
}

impl RaftNetworkFactory<StoreTypes> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Connection {
        Connection { peers: self.peers.clone(), target, peer: node.clone() }
    }
}

type NotSent<E> = RPCError<NodeId, Peer, RaftError<NodeId, E>>;

fn not_sent<E: std::error::Error>(error: &CallError) -> NotSent<E> {
    match error {
        CallError::Transport(_) | CallError::Silent | CallError::Refused { .. } => {
            RPCError::Unreachable(Unreachable::new(error))
        }
        CallError::TimedOut { .. } | CallError::TooLarge { .. } | CallError::Garbled { .. } => {
            RPCError::Network(NetworkError::new(error))
        }
    }
}

impl RaftNetwork<StoreTypes> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<StoreTypes>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, NotSent<openraft::error::Infallible>> {
        if self.peers.is_silent() {
            return Err(not_sent(&CallError::Silent));
        }
        let entries = request.entries.len() as u64;
        match self.peers.call(self.target, &self.peer, Call::Append(request), option.hard_ttl()).await {
            Ok(Answer::Append(response)) => Ok(response),
            Ok(_) => Err(not_sent(&CallError::Garbled { id: self.target })),
            Err(CallError::TooLarge { .. }) if entries > 1 => {
                Err(RPCError::PayloadTooLarge(PayloadTooLarge::new_entries_hint(entries / 2)))
            }
            Err(error) => Err(not_sent(&error)),
        }
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<StoreTypes>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, NotSent<InstallSnapshotError>> {
        // Never called: `full_snapshot` sends snapshots in chunks of its own.
        Err(not_sent(&CallError::Garbled { id: self.target }))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, NotSent<openraft::error::Infallible>> {
        match self.peers.call(self.target, &self.peer, Call::Vote(request), option.hard_ttl()).await {
            Ok(Answer::Vote(response)) => Ok(response),
            Ok(_) => Err(not_sent(&CallError::Garbled { id: self.target })),
            Err(error) => Err(not_sent(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<StoreTypes>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<StoreTypes, Fatal<NodeId>>> {
        let sending = snapshot_send::send(&self.peers, self.target, &self.peer, vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => sent.map(SnapshotResponse::new),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_UNREACHABLE))
    }
}
