//! The times of consensus, and which of them follow from which.

use std::time::Duration;

use openraft::SnapshotPolicy;

/// How fast a group notices that its leader is gone. The defaults suit replicas of one site: writes go on about a second
/// after a leader's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The leader shows itself this often, times 1.5 (openraft's tick). It is also the time an answer to an append may take.
    pub heartbeat: Duration,
    /// A replica that has heard nothing for a time between these two asks the others whether it should lead.
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(900),
        }
    }
}

impl Timing {
    /// How long after a leader's last message a replica refuses to vote for another. Short, because pre-vote guards the
    /// leader already, and a hand-over of leadership has to wait for it.
    pub(crate) fn lease(&self) -> Duration {
        self.heartbeat * 5 / 2
    }

    pub(crate) fn config(&self) -> openraft::Config {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "isthmus".to_owned(),
            heartbeat_interval: milliseconds(self.heartbeat),
            // The time for a vote to be answered, and the lease; when to elect is decided in `election`.
            election_timeout_min: milliseconds(self.heartbeat * 2),
            election_timeout_max: milliseconds(self.lease()),
            enable_elect: false,
            // Snapshots and purges are asked for by size, see `upkeep`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // A follower further behind than the log reaches gets a snapshot; within it, entries.
            replication_lag_threshold: u64::MAX,
            max_payload_entries: 256,
            ..openraft::Config::default()
        }
    }
}
