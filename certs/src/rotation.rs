//! The schedule by which a cluster goes over to another CA. Pure: the time, the record and what every party holds go in,
//! the next record or what is still missing comes out.
//!
//! ```text
//!              all trust both   for a while    all present new   all trust new alone
//!  Distribute ---------------> Overlap -----> Switch ---------> Retire ------------> Done
//!      \                         /              |
//!       \------- abort ---------/-> Aborted <-- Revert  (all present old again)
//! ```
//! # Invariants
//! - No leaf of the new CA is made before every party trusts that CA, and the old one is not dropped before nobody presents
//!   a leaf of it: so at each instant any two parties trust each other.
//! - One step at a time, and only when every party has said that it is done: a party that was away is one step behind at most.
//! - The record alone says what is to be held. Whoever reads it, however late or after whatever crash, knows what to do.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bundle::{self, TrustBundle};
use crate::ca_hash::CaHash;

mod party;

pub use party::{Held, Missing, Party, Report};

/// Where a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The new CA is told to everybody, and signs nothing.
    Distribute,
    /// Everybody trusts both; a pause in which an administrator may look.
    Overlap,
    /// Leaves are of the new CA; both are trusted.
    Switch,
    /// The old CA is no longer trusted. There is no way back.
    Retire,
    Done,
    /// Leaves are of the old CA again; both are trusted.
    Revert,
    /// The new CA is trusted no more.
    Aborted,
}

/// `isthmus/v1/rotation/ca`, JSON: the rotation that runs, or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub stage: Stage,
    pub old: CaHash,
    pub new: CaHash,
    old_pem: String,
    new_pem: String,
    pub started_unix_seconds: u64,
    /// When the stage was entered.
    pub since_unix_seconds: u64,
}

/// What everybody of the cluster is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub trusts: BTreeSet<CaHash>,
    /// Who signs leaves.
    pub issuer: CaHash,
}

/// What follows from what the parties hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do: the rotation is over.
    Rest,
    /// For these; empty while only time has to pass.
    Wait(Vec<Missing>),
    /// The record is to be replaced by this one.
    Enter(Rotation),
}

/// Why a rotation cannot be begun or aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "a rotation is at stage {stage} already: wait for it, or abort it with `meshctl certs rotate --ca --abort` (see \
         `meshctl certs status`)"
    )]
    Running { stage: Stage },
    #[error("no rotation of the CA is running: there is nothing to abort")]
    Nothing,
    #[error(
        "the rotation is at stage {stage}: everybody presents the new CA's leaves and the old CA is being dropped, so it ends by itself"
    )]
    TooLate { stage: Stage },
}

impl Stage {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Distribute => "distribute",
            Self::Overlap => "overlap",
            Self::Switch => "switch",
            Self::Retire => "retire",
            Self::Done => "done",
            Self::Revert => "revert",
            Self::Aborted => "aborted",
        }
    }

    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Aborted)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Rotation {
    /// The first record. `known` is the one that is stored.
    pub fn begin(
        known: Option<&Self>,
        old: (CaHash, &TrustBundle),
        new: (CaHash, &TrustBundle),
        now_unix_seconds: u64,
    ) -> Result<Self, Refusal> {
        if let Some(known) = known.filter(|known| !known.stage.is_over()) {
            return Err(Refusal::Running { stage: known.stage });
        }
        Ok(Self {
            stage: Stage::Distribute,
            old: old.0,
            new: new.0,
            old_pem: old.1.pem(),
            new_pem: new.1.pem(),
            started_unix_seconds: now_unix_seconds,
            since_unix_seconds: now_unix_seconds,
        })
    }

    /// The record that takes the rotation back. Repeating it changes nothing.
    pub fn abort(&self, now_unix_seconds: u64) -> Result<Self, Refusal> {
        match self.stage {
            // Nobody presents a leaf of the new CA.
            Stage::Distribute | Stage::Overlap => Ok(self.enter(Stage::Aborted, now_unix_seconds)),
            Stage::Switch => Ok(self.enter(Stage::Revert, now_unix_seconds)),
            Stage::Revert => Ok(self.clone()),
            Stage::Retire => Err(Refusal::TooLate { stage: self.stage }),
            Stage::Done | Stage::Aborted => Err(Refusal::Nothing),
        }
    }

    /// What follows now. Both CAs are trusted by all for `overlap` at least before the new one signs.
    pub fn step(&self, now_unix_seconds: u64, overlap: Duration, reports: &[Report]) -> Step {
        let next = match self.stage {
            Stage::Distribute => Stage::Overlap,
            Stage::Overlap => Stage::Switch,
            Stage::Switch => Stage::Retire,
            Stage::Retire => Stage::Done,
            Stage::Revert => Stage::Aborted,
            Stage::Done | Stage::Aborted => return Step::Rest,
        };
        let missing: Vec<Missing> = reports.iter().filter_map(|report| self.missing(report)).collect();
        let is_early = self.stage == Stage::Overlap
            && now_unix_seconds < self.since_unix_seconds.saturating_add(overlap.as_secs());
        if !missing.is_empty() || is_early {
            return Step::Wait(missing);
        }
        Step::Enter(self.enter(next, now_unix_seconds))
    }

    /// What everybody of the cluster is to hold from this record on.
    pub fn wanted(&self) -> Wanted {
        let (old, new) = (self.old, self.new);
        let (trusts, issuer) = match self.stage {
            Stage::Distribute | Stage::Overlap | Stage::Revert => (BTreeSet::from([old, new]), old),
            Stage::Switch => (BTreeSet::from([old, new]), new),
            Stage::Retire | Stage::Done => (BTreeSet::from([new]), new),
            Stage::Aborted => (BTreeSet::from([old]), old),
        };
        Wanted { trusts, issuer }
    }

    /// The CAs of [`Self::wanted`].
    pub fn bundle(&self) -> Result<TrustBundle, bundle::Error> {
        let trusts = self.wanted().trusts;
        let both = TrustBundle::from_pem(&self.old_pem)?.merge(&TrustBundle::from_pem(&self.new_pem)?)?;
        let unwanted = both.hashes().into_iter().filter(|hash| !trusts.contains(hash)).collect::<Vec<_>>();
        unwanted.iter().try_fold(both, |bundle, hash| bundle.without(hash)).ok_or(bundle::Error::Empty)
    }

    fn enter(&self, stage: Stage, now_unix_seconds: u64) -> Self {
        Self { stage, since_unix_seconds: now_unix_seconds, ..self.clone() }
    }

    fn missing(&self, report: &Report) -> Option<Missing> {
        let wanted = self.wanted();
        let Some(held) = &report.held else { return Some(report.missing(report.note.clone())) };
        // A peer presents leaves of its own CA; whether it still trusts the new one does not matter to a revert.
        let is_peer = matches!(report.party, Party::Peer(_));
        if is_peer && self.stage == Stage::Revert {
            return None;
        }
        if held.trusts != wanted.trusts {
            let which = match (held.trusts.contains(&self.new), held.trusts.contains(&self.old)) {
                (false, _) => "does not trust the new CA yet",
                (true, true) => "still trusts the old CA",
                (true, false) => "does not trust the old CA",
            };
            return Some(report.missing(format!("{which}{}", suffix(&report.note))));
        }
        if is_peer {
            return None;
        }
        if matches!(report.party, Party::Replica(_)) {
            let is_over = self.stage == Stage::Retire;
            if !held.keys.contains(&self.new) {
                return Some(report.missing(format!(
                    "has no key of the new CA: copy the folder \"next\" into its --ca-dir{}",
                    suffix(&report.note)
                )));
            }
            if is_over && held.keys.contains(&self.old) {
                return Some(report.missing(format!("still has the old CA in its --ca-dir{}", suffix(&report.note))));
            }
        }
        let presents = match self.stage {
            Stage::Switch | Stage::Retire | Stage::Revert => held.presents.iter().find(|ca| **ca != wanted.issuer),
            _ => None,
        };
        presents.map(|_| report.missing(format!("still presents a leaf of the other CA{}", suffix(&report.note))))
    }
}

fn suffix(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(" ({note})") }
}

#[cfg(test)]
mod tests;
