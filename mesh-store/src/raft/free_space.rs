//! A disk that is nearly full is an alarm, before it is a failure.
//!
//! A write to the log that finds no space ends a replica: what is on disk is not known then. So while there is still room for
//! the files to come, the replica raises etcd's NOSPACE alarm for the whole group: writes that need space are refused
//! everywhere, reads, deletions and compactions are served. The way back is a person's, as with etcd: make room, disarm.
//! A replica that has ended all the same need not be started again before there is room.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::{Alarm, AlarmAction, AlarmKind, Command};
use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use super::propose::Proposer;
use super::replica::Replica;
use super::snapshot::SnapshotDir;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Log files that must still fit: the one being filled in advance, one for what is under way, and one for the alarm.
const SEGMENTS: u64 = 4;

/// How much room a replica has on its disk, and how much it wants to have.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) snapshots: SnapshotDir,
    pub(crate) segment_bytes: u64,
}

/// There is not enough room on a replica's disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk of {} has {free} bytes left, and {wanted} are wanted: make room there", dir.display())]
pub struct NoRoom {
    pub dir: PathBuf,
    pub free: u64,
    pub wanted: u64,
}

impl Room {
    /// A disk that does not say how full it is counts as having room.
    pub(crate) fn check(&self) -> Result<(), NoRoom> {
        // A new snapshot is written beside the old one, and one may arrive from the leader.
        let wanted = SEGMENTS * self.segment_bytes + 2 * self.snapshots.disk_bytes();
        match self.disk.free(&self.dir) {
            Ok(free) if free < wanted => Err(NoRoom { dir: self.dir.clone(), free, wanted }),
            _ => Ok(()),
        }
    }
}

pub(crate) struct FreeSpace {
    pub(crate) room: Room,
    pub(crate) member_id: u64,
    pub(crate) replica: Arc<Replica>,
    pub(crate) proposer: Proposer,
}

impl FreeSpace {
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let Err(lack) = self.room.check() else { continue };
            let alarm = Alarm { kind: AlarmKind::NoSpace, member_id: self.member_id };
            let is_raised = self.replica.state.read().mvcc.alarms().any(|raised| raised == alarm);
            if is_raised {
                continue;
            }
            tracing::error!("{lack}, then disarm the alarm: until then writes are refused");
            let command = Command::Alarm { action: AlarmAction::Raise, alarm };
            if let Err(error) = self.proposer.propose(command).await {
                tracing::warn!(%error, "the alarm cannot be raised now, trying again");
            }
        }
    }
}
