//! The way to other replicas. There is none yet: a group of one never calls it, and a larger one is refused at start.

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};

use super::types::{NodeId, Peer, TypeConfig};

#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPeers;

#[derive(Debug, thiserror::Error)]
#[error("replica {target} cannot be reached: this build replicates to no other replica")]
pub(crate) struct NoRoute {
    target: NodeId,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Unconnected {
    target: NodeId,
}

impl Unconnected {
    fn refuse<E: std::error::Error>(self) -> RPCError<NodeId, Peer, E> {
        RPCError::Unreachable(Unreachable::new(&NoRoute { target: self.target }))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = Unconnected;

    async fn new_client(&mut self, target: NodeId, _node: &Peer) -> Unconnected {
        Unconnected { target }
    }
}

impl RaftNetwork<TypeConfig> for Unconnected {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, Peer, RaftError<NodeId>>> {
        Err(self.refuse())
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, RPCError<NodeId, Peer, RaftError<NodeId, InstallSnapshotError>>> {
        Err(self.refuse())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<NodeId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, Peer, RaftError<NodeId>>> {
        Err(self.refuse())
    }
}
