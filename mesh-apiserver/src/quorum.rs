//! Whether this replica still follows its store: one that a partition has cut off must not feed anybody with old news.
//!
//! A store that has had no leader for a while makes the replica not ready and ends its agents' streams, so that they turn
//! to a replica that has one. The etcd API says the same to clients that require a leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::{Connections, Role};
use mesh_runtime::{Readiness, ReadyGuard, Shutdown};
use mesh_store::Store;
use mesh_store::backend::Leadership;
use tokio::sync::watch;

/// How often the store is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Well above the time in which a store elects a new leader.
const PATIENCE: Duration = Duration::from_secs(4);

/// The task.
pub struct Quorum {
    store: Arc<dyn Store>,
    readiness: Readiness,
    connections: Connections,
    follows: watch::Sender<bool>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(watch::Receiver<bool>);

impl Quorum {
    pub fn new(store: Arc<dyn Store>, readiness: Readiness, connections: Connections) -> (Self, Handle) {
        let (follows, seen) = watch::channel(true);
        (Self { store, readiness, connections, follows }, Handle(seen))
    }

    pub async fn run(self, shutdown: Shutdown) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut verdict = Verdict::new(Instant::now());
        let mut unready: Option<ReadyGuard> = None;
        while shutdown.unless_requested(looks.tick()).await.is_some() {
            let has_leader = self.store.leadership() != Leadership::Nowhere;
            let follows = verdict.judge(Instant::now(), has_leader);
            if !follows {
                self.send_agents_elsewhere();
            }
            if follows == *self.follows.borrow() {
                continue;
            }
            if follows {
                tracing::info!("the store has a leader again");
                unready = None;
            } else {
                tracing::warn!("the store has had no leader for {} s: agents are sent elsewhere", PATIENCE.as_secs());
                unready = Some(self.readiness.await_for("a leader of the store"));
            }
            self.follows.send_replace(follows);
        }
        drop(unready);
    }

    /// An agent whose connection is cut goes on at the next replica; one that is only refused would ask here again.
    fn send_agents_elsewhere(&self) {
        self.connections.cut_where(|connection| {
            connection.principal.as_ref().is_some_and(|principal| matches!(principal.role(), Role::Agent(_)))
        });
    }
}

impl Handle {
    pub fn follows(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the replica no longer follows its store.
    pub async fn lost(mut self) {
        // The sender is gone only when the process stops.
        self.0.wait_for(|follows| !follows).await.ok();
    }
}

/// Pure: a leader that is missing for a moment is an election.
struct Verdict {
    seen: Instant,
}

impl Verdict {
    fn new(now: Instant) -> Self {
        Self { seen: now }
    }

    fn judge(&mut self, now: Instant, has_leader: bool) -> bool {
        if has_leader {
            self.seen = now;
        }
        now.duration_since(self.seen) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_that_stays_away_counts() {
        let start = Instant::now();
        let mut verdict = Verdict::new(start);
        assert!(verdict.judge(start + PATIENCE / 2, false));
        assert!(verdict.judge(start + PATIENCE, true));
        assert!(verdict.judge(start + PATIENCE * 3 / 2, false));
        assert!(!verdict.judge(start + PATIENCE * 2, false));
        assert!(verdict.judge(start + PATIENCE * 3, true));
    }
}
