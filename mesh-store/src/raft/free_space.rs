//! A disk that is nearly full is told of, before it is a failure.
//!
//! A write to the log that finds no space ends a replica: what is on disk is not known then. One replica may come to that, the
//! others go on, and it comes back when there is room; that its disk is low is noted for all to see. Where so many disks are
//! low that a quorum could end, the replicas raise etcd's NOSPACE alarm for the whole group while there is still room for the
//! files to come: writes that need space are refused everywhere, reads, deletions and compactions are served. The way back
//! from that is a person's, as with etcd: make room, disarm.

use std::collections::BTreeSet;
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
            let lack = self.room.check().err();
            self.replica.metrics.low_disk.set(i64::from(lack.is_some()));
            while let Some((action, alarm)) = self.due(lack.is_some()) {
                match (action, alarm.kind, &lack) {
                    (AlarmAction::Raise, AlarmKind::LowDisk, Some(lack)) => {
                        tracing::warn!("{lack}. If the log finds no place, this replica stops serving until it does");
                    }
                    (AlarmAction::Raise, _, Some(lack)) => {
                        tracing::error!("{lack}, then disarm the alarm: until then writes are refused");
                    }
                    _ => tracing::info!("the disk has room again"),
                }
                if let Err(error) = self.proposer.propose(Command::Alarm { action, alarm }).await {
                    tracing::warn!(%error, "the others cannot be told of the disk now, trying again");
                    break;
                }
            }
        }
    }

    fn due(&self, is_low: bool) -> Option<(AlarmAction, Alarm)> {
        let state = self.replica.state.read();
        let voters = state.membership.membership().voter_ids().collect();
        due(self.member_id, is_low, &state.mvcc.alarms().collect(), &voters)
    }
}

/// What a replica tells the group of its disk.
fn due(own: u64, is_low: bool, raised: &BTreeSet<Alarm>, voters: &BTreeSet<u64>) -> Option<(AlarmAction, Alarm)> {
    let low = |member_id| Alarm { kind: AlarmKind::LowDisk, member_id };
    let full = Alarm { kind: AlarmKind::NoSpace, member_id: own };
    match (is_low, raised.contains(&low(own))) {
        (true, false) => Some((AlarmAction::Raise, low(own))),
        (false, true) => Some((AlarmAction::Disarm, low(own))),
        (false, false) => None,
        (true, true) => {
            let well = voters.iter().filter(|id| !raised.contains(&low(**id))).count();
            let is_quorum_safe = well > voters.len() / 2;
            (!is_quorum_safe && !raised.contains(&full)).then_some((AlarmAction::Raise, full))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What three replicas end up with when the disks of some are low.
    fn told(low: &[u64], voters: u64, mut raised: BTreeSet<Alarm>) -> Vec<(AlarmKind, u64)> {
        let voters: BTreeSet<u64> = (1..=voters).collect();
        for _ in 0..3 {
            for own in &voters {
                while let Some((action, alarm)) = due(*own, low.contains(own), &raised, &voters) {
                    match action {
                        AlarmAction::Raise => assert!(raised.insert(alarm), "{alarm:?} twice"),
                        AlarmAction::Disarm => assert!(raised.remove(&alarm), "{alarm:?} is not raised"),
                    }
                }
            }
        }
        raised.into_iter().map(|alarm| (alarm.kind, alarm.member_id)).collect()
    }

    #[test]
    fn writes_are_refused_only_where_a_quorum_could_be_lost() {
        use AlarmKind::{LowDisk, NoSpace};
        let none = BTreeSet::new;
        assert_eq!(told(&[], 3, none()), []);
        assert_eq!(told(&[2], 3, none()), [(LowDisk, 2)]);
        assert_eq!(told(&[1, 3], 3, none()), [(NoSpace, 1), (NoSpace, 3), (LowDisk, 1), (LowDisk, 3)]);
        assert_eq!(told(&[1, 3], 5, none()), [(LowDisk, 1), (LowDisk, 3)]);
        assert_eq!(told(&[1], 1, none()), [(NoSpace, 1), (LowDisk, 1)]);
        let removed = Alarm { kind: LowDisk, member_id: 9 };
        assert_eq!(told(&[1], 3, BTreeSet::from([removed])), [(LowDisk, 1), (LowDisk, 9)], "one that votes no more");
    }

    #[test]
    fn room_takes_the_note_back_and_leaves_the_alarm_to_a_person() {
        let of = |kind| Alarm { kind, member_id: 1 };
        let raised = BTreeSet::from([of(AlarmKind::LowDisk), of(AlarmKind::NoSpace)]);
        assert_eq!(told(&[], 3, raised), [(AlarmKind::NoSpace, 1)]);
    }
}
