//! Alarms and the space quota: when the store stops taking what makes it larger, and how it starts again.
//!
//! The quota is a setting of each replica, so it decides nothing here: whoever proposes a command asks [`Quota::admits`]
//! first, and when it does not, proposes [`Command::Alarm`] instead and refuses. From then on the alarm, which is part of
//! the replicated state, refuses on every replica alike, until it is disarmed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Command, Error, PutRequest, TxnOp, TxnRequest};

/// etcd's estimates of what a key and a lease cost beside their bytes.
const KEY_OVERHEAD: usize = 256;
const LEASE_COST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The quota is used up: puts, transactions that may put, and new leases are refused.
    NoSpace,
    /// A replica's data differs from the others'.
    Corrupt,
    /// A replica's disk is nearly full. It refuses nothing: the others can do without it. Not an alarm of etcd's.
    LowDisk,
}

impl AlarmKind {
    /// What etcd calls it, or would.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::LowDisk => "LOWDISK",
        }
    }

    /// Whether the store refuses something while it is raised.
    pub fn refuses(self) -> bool {
        self != Self::LowDisk
    }
}

/// An alarm that a member has raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alarm {
    pub kind: AlarmKind,
    pub member_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmAction {
    Raise,
    Disarm,
}

/// The alarms that are raised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(BTreeSet<Alarm>);

impl Alarms {
    pub(crate) fn restore(raised: impl IntoIterator<Item = Alarm>) -> Self {
        Self(raised.into_iter().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.0.iter().copied()
    }

    /// The alarm, when the action was about it: raising one again is answered as raising it is, disarming none is not.
    pub(crate) fn set(&mut self, action: AlarmAction, alarm: Alarm) -> Option<Alarm> {
        match action {
            AlarmAction::Raise => {
                self.0.insert(alarm);
                Some(alarm)
            }
            AlarmAction::Disarm => self.0.remove(&alarm).then_some(alarm),
        }
    }

    /// Why a command is refused while these alarms are raised, as etcd refuses it.
    pub(crate) fn refuse(&self, command: &Command) -> Option<Error> {
        let is_raised = |kind| self.0.iter().any(|alarm| alarm.kind == kind);
        if matches!(command, Command::Alarm { .. }) {
            return None;
        }
        if is_raised(AlarmKind::Corrupt) {
            return Some(Error::Corrupt);
        }
        (command.cost() > 0 && is_raised(AlarmKind::NoSpace)).then_some(Error::NoSpace)
    }
}

/// How many bytes the kept versions may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub bytes: u64,
}

impl Quota {
    /// etcd's default: 2 GiB.
    pub const DEFAULT: Self = Self { bytes: 2 << 30 };

    /// False when the command would make a state of so many bytes larger than it may be. What makes nothing larger is
    /// always admitted.
    pub fn admits(self, bytes_in_use: usize, command: &Command) -> bool {
        let cost = command.cost();
        cost == 0 || (bytes_in_use as u64).saturating_add(cost as u64) < self.bytes
    }
}

impl Command {
    /// Roughly the bytes by which the command may make the state larger.
    pub fn cost(&self) -> usize {
        match self {
            Self::Put(request) => request.cost(),
            Self::Txn(request) => request.cost(),
            Self::LeaseGrant { .. } => LEASE_COST,
            Self::DeleteRange(_) | Self::Compact { .. } | Self::LeaseRevoke { .. } | Self::Alarm { .. } => 0,
        }
    }
}

impl PutRequest {
    fn cost(&self) -> usize {
        KEY_OVERHEAD + self.key.len() + self.value.len()
    }
}

impl TxnRequest {
    /// That of the dearer branch.
    fn cost(&self) -> usize {
        let branch = |ops: &[TxnOp]| -> usize {
            let cost = |op: &TxnOp| match op {
                TxnOp::Put(request) => request.cost(),
                TxnOp::Txn(request) => request.cost(),
                TxnOp::Range(_) | TxnOp::DeleteRange(_) => 0,
            };
            ops.iter().map(cost).sum()
        };
        branch(&self.success).max(branch(&self.failure))
    }
}
