//! The quota of a replica, and the hash that shows whether replicas hold the same.
//!
//! It decides when the alarm is raised; what the alarm forbids is the state's to say, on every replica alike.

use mesh_store_mvcc::{Alarm, AlarmAction, AlarmKind, Command, Error as Refusal, HashKv};

use super::Embedded;
use crate::backend::{Error, Result};

impl Embedded {
    /// Refuses what would not fit, after raising the alarm. As in etcd, what is under way already is applied all the same.
    pub(super) async fn make_room(&self, command: &Command) -> Result<()> {
        // The gauge is what was last applied, and costs no lock.
        let bytes_in_use = usize::try_from(self.replica.metrics.db_bytes_in_use.get()).unwrap_or(0);
        if self.quota.admits(bytes_in_use, command) {
            return Ok(());
        }
        let alarm = Alarm { kind: AlarmKind::NoSpace, member_id: self.member.id };
        let is_raised = self.replica.state.read().mvcc.alarms().any(|raised| raised == alarm);
        if !is_raised {
            tracing::error!(
                bytes_in_use,
                quota = self.quota.bytes,
                "the store is full: writes are refused until history is compacted, keys are deleted and the alarm is disarmed"
            );
            self.proposer.propose(Command::Alarm { action: AlarmAction::Raise, alarm }).await?;
        }
        Err(Error::Refused(Refusal::NoSpace))
    }

    /// Computed away from the state's lock and from the tasks that serve.
    pub(super) async fn hash(&self, revision: i64) -> Result<HashKv> {
        let hashing = self.replica.state.read().mvcc.hash_kv(revision)?;
        let hashed = tokio::task::spawn_blocking(move || hashing.finish()).await;
        hashed.map_err(|ended| Error::Failed { reason: ended.to_string() })
    }
}
