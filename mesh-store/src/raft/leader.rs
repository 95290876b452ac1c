//! Who leads, as this replica knows it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::timing::Timing;
use super::types::{NodeId, Peer, Raft, RaftMetrics};

/// How soon one that refused to lead, or could not be reached, is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This replica.
    Here,
    There {
        id: NodeId,
        peer: Peer,
    },
}

/// A view of openraft's metrics that waits for a leader.
#[derive(Clone)]
pub(crate) struct Leaders {
    id: NodeId,
    /// How long a leader counts as one without an answer of a quorum.
    patience: Duration,
    metrics: watch::Receiver<RaftMetrics>,
}

impl Leaders {
    pub(crate) fn new(id: NodeId, raft: &Raft, timing: Timing) -> Self {
        Self { id, patience: timing.election_max * 2, metrics: raft.metrics() }
    }

    pub(crate) fn known(&self) -> Option<Leader> {
        self.of(&self.metrics.borrow())
    }

    fn of(&self, metrics: &RaftMetrics) -> Option<Leader> {
        let id = metrics.current_leader?;
        if id == self.id {
            // A leader that no quorum answers any more can do nothing for anybody.
            let silent = metrics.millis_since_quorum_ack.map(Duration::from_millis);
            return silent.is_none_or(|silent| silent <= self.patience).then_some(Leader::Here);
        }
        let peer = metrics.membership_config.membership().get_node(&id)?.clone();
        Some(Leader::There { id, peer })
    }

    /// Waits until somebody leads.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Option<Leader> {
        let own = self.clone();
        let leads = self.metrics.wait_for(|metrics| own.of(metrics).is_some());
        let found = tokio::time::timeout_at(deadline, leads).await.ok()?.ok()?;
        own.of(&found)
    }

    /// Waits until another one leads than this.
    pub(crate) async fn changed(&mut self, from: &Leader) {
        let own = self.clone();
        let changed = self.metrics.wait_for(|metrics| own.of(metrics).is_some_and(|leader| leader != *from));
        if changed.await.is_err() {
            // openraft has ended; whoever waits here has a deadline.
            std::future::pending::<()>().await;
        }
    }

    /// Waits a little for another leader than the one that was of no use.
    pub(crate) async fn wait_for_other(&mut self, than: &Leader) {
        // Running out of time is as good: the same leader may be of use by then.
        drop(tokio::time::timeout(ASK_AGAIN, self.changed(than)).await);
    }
}
