//! What only the leader may do, and since when it may.
//!
//! Leading begins, for leases, when this replica has applied everything that was acknowledged before its election: only
//! then does it know all leases, and starts the clock of each anew. So a change of leader may lengthen a lease, never
//! shorten one.

use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::{Command, LeaseId};
use openraft::ServerState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::intake::Intake;
use super::lease_clock::Renewal;
use super::peers::Peers;
use super::read_index::ReadIndex;
use super::replica::Replica;
use super::rpc::Refusal;
use super::types::{Content, Origin, Part, Proposal, Raft, RaftMetrics};

/// How long a question about a lease that has ended waits for its revocation; then it is to be asked again.
const REVOCATION_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Leadership {
    raft: Raft,
    replica: Arc<Replica>,
    reads: ReadIndex,
    intake: Intake,
    peers: Peers,
    /// The term that this replica leads in and whose leases it keeps; 0 while there is none.
    term: watch::Sender<u64>,
}

impl Leadership {
    pub(crate) fn new(raft: Raft, replica: Arc<Replica>, reads: ReadIndex, intake: Intake, peers: Peers) -> Self {
        Self { raft, replica, reads, intake, peers, term: watch::channel(0).0 }
    }

    /// 0 while this replica does not lead.
    pub(crate) fn term(&self) -> u64 {
        *self.term.borrow()
    }

    /// Waits until this replica leads.
    pub(crate) async fn lead(&self) -> u64 {
        let mut term = self.term.subscribe();
        let leads = term.wait_for(|term| *term != 0).await.map(|term| *term);
        // The sender lives as long as `self`.
        leads.unwrap_or(0)
    }

    /// Follows openraft: sets the term once this replica leads, and back when it does not any more.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut metrics = self.raft.metrics();
        loop {
            let own = self.term();
            let leads = |metrics: &RaftMetrics| {
                if metrics.state == ServerState::Leader { metrics.current_term } else { 0 }
            };
            let seen = tokio::select! {
                () = stop.cancelled() => return,
                changed = metrics.wait_for(|metrics| leads(metrics) != own) => changed.map(|metrics| leads(&metrics)),
            };
            let Ok(leading) = seen else { return };
            // Whatever was known of an earlier term is void, also when this replica was elected again at once.
            self.term.send_replace(0);
            if leading == 0 {
                continue;
            }
            let index = tokio::select! {
                () = stop.cancelled() => return,
                index = self.reads.confirm() => index,
            };
            let Ok(index) = index else { continue };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.replica.applied(index) => {}
            }
            if self.replica.cluster_id() == 0 {
                self.number_the_group().await;
            }
            if leads(&self.raft.metrics().borrow()) == leading {
                self.replica.restart_leases();
                self.term.send_replace(leading);
                tracing::info!(term = leading, index, "this replica leads");
            }
        }
    }

    /// A new group gets its number through the log, so that every replica has it in its state.
    async fn number_the_group(&self) {
        let proposal = Proposal::new(Content::Genesis { cluster_id: self.peers.cluster_id() });
        let Ok(written) = self.raft.client_write_ff(proposal).await else { return };
        if let Ok(Err(error)) = written.await {
            tracing::debug!(%error, "the group is numbered by its next leader");
        }
    }

    /// A command that this leader decides on, void if it does not lead any more when the entry is made.
    pub(crate) async fn decide(&self, term: u64, command: Command) -> Result<(), Refusal> {
        self.intake.offer(Part { origin: Origin::Leader { term }, commands: [command].into() }).await
    }

    /// Starts a lease's time anew; `None` if there is no such lease. The leader only.
    ///
    /// Of a lease whose time is over nothing is said until its end is in the log: if this replica loses its leadership
    /// before, the lease lives on under the next leader. etcd waits there, too.
    pub(crate) async fn renew(&self, id: LeaseId) -> Result<Option<i64>, Refusal> {
        // Whoever else might lead by now started its clocks after this question was answered, or before it was asked.
        let term = self.reach().await?;
        match self.replica.leases.renew(id) {
            Renewal::Renewed(ttl) => return Ok(Some(ttl)),
            Renewal::Unknown => return Ok(None),
            Renewal::Ended => {}
        }
        let mut terms = self.term.subscribe();
        tokio::select! {
            () = self.replica.lease_is_gone(id) => Ok(None),
            _ = terms.wait_for(|now| *now != term) => Err(Refusal::NotLeader),
            () = tokio::time::sleep(REVOCATION_PATIENCE) => Err(Refusal::NotLeader),
        }
    }

    /// How long a lease still lives. The leader only.
    pub(crate) async fn time_left(&self, id: LeaseId) -> Result<Duration, Refusal> {
        self.reach().await?;
        Ok(self.replica.leases.remaining(id).unwrap_or_default())
    }

    /// Sees to it that this replica leads, keeps the leases, and knows what was acknowledged before. Returns its term.
    async fn reach(&self) -> Result<u64, Refusal> {
        let term = self.term();
        if term == 0 {
            return Err(Refusal::NotLeader);
        }
        let index = self.reads.ask().await?;
        self.replica.applied(index).await;
        if self.term() == term { Ok(term) } else { Err(Refusal::NotLeader) }
    }
}
