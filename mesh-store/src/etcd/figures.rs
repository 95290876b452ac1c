//! What monitoring that was made for etcd looks for, under etcd's own names where the meaning is the same.
//!
//! They are read from the store's status once a second, so any backend has them: of an external etcd, those of the member
//! that answered. It must never be asked for what etcd means otherwise: such figures have names of their own.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::backend::Store;

const EVERY: Duration = Duration::from_secs(1);

/// Clones share the same numbers.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    leader_changes: Counter,
    applied: Gauge,
    committed: Gauge,
    db_bytes: Gauge,
    db_bytes_in_use: Gauge,
    quota: Gauge,
    keys: Gauge,
}

impl Figures {
    pub fn register(registry: &mut Registry) -> Self {
        let figures = Self::default();
        let (is_leader, is_learner) = (figures.is_leader.clone(), figures.is_learner.clone());
        registry.register("etcd_server_has_leader", "Whether or not a leader exists", figures.has_leader.clone());
        registry.register("etcd_server_is_leader", "Whether or not this member is a leader", is_leader);
        registry.register("etcd_server_is_learner", "Whether or not this member is a learner", is_learner);
        registry.register("etcd_server_leader_changes_seen", "Leader changes seen", figures.leader_changes.clone());
        // Gauges whose names end in _total, as in etcd.
        registry.register("etcd_server_proposals_applied_total", "Log entries applied", figures.applied.clone());
        registry.register("etcd_server_proposals_committed_total", "Log entries known here", figures.committed.clone());
        registry.register("etcd_mvcc_db_total_size_in_bytes", "Bytes on disk", figures.db_bytes.clone());
        let in_use = figures.db_bytes_in_use.clone();
        registry.register("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of all kept versions", in_use);
        let quota = figures.quota.clone();
        registry.register("etcd_server_quota_backend_bytes", "Bytes in use at which writes are refused", quota);
        registry.register("etcd_debugging_mvcc_keys_total", "Keys that exist", figures.keys.clone());
        figures
    }

    /// Goes on until it is dropped.
    pub async fn follow(self, store: Arc<dyn Store>) {
        let mut known = 0;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            known = self.read(&*store, known).await;
        }
    }

    /// Returns the leader, if one is known, else the one before.
    async fn read(&self, store: &dyn Store, known: u64) -> u64 {
        let Ok(status) = store.status().await else {
            // Who does not know its state knows no leader.
            self.has_leader.set(0);
            return known;
        };
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.has_leader.set(i64::from(status.leader != 0));
        self.is_leader.set(i64::from(status.leader != 0 && status.leader == store.identity().member_id));
        self.is_learner.set(i64::from(status.is_learner));
        self.applied.set(number(status.raft_applied_index));
        self.committed.set(number(status.raft_index));
        self.db_bytes.set(number(status.db_size));
        self.db_bytes_in_use.set(number(status.db_size_in_use));
        self.quota.set(number(status.db_size_quota));
        self.keys.set(number(status.keys));
        if status.leader == 0 {
            return known;
        }
        if status.leader != known {
            self.leader_changes.inc();
        }
        status.leader
    }
}
