//! Which parts have been executed, as every replica knows it: what is delivered twice is executed once.
//!
//! It is part of the replicated state and of every snapshot, so it must never look at anything but the log.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::types::{NodeId, Ticket};

/// Runs of replicas that are remembered. A part of a forgotten run would have to be under way while so many restarts
/// happened.
const KEPT: usize = 64;

/// # Invariants
/// No run stands here twice, none remembers what is below `answered`, and there are no more than are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub(crate) struct Sessions {
    /// The one that was used last is at the back.
    sessions: VecDeque<Session>,
}

/// As they come in a snapshot, which may be another replica's.
#[derive(Deserialize)]
struct Unchecked {
    sessions: VecDeque<Session>,
}

impl TryFrom<Unchecked> for Sessions {
    type Error = &'static str;

    fn try_from(read: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked { sessions } = read;
        let runs: BTreeSet<(NodeId, u64)> = sessions.iter().map(|session| (session.replica, session.boot)).collect();
        if runs.len() < sessions.len() || sessions.len() > KEPT {
            return Err("no store remembers a run twice, or more runs than it keeps");
        }
        let is_below = |session: &Session| session.executed.first().is_some_and(|first| *first < session.answered);
        if sessions.iter().any(is_below) {
            return Err("no store remembers parts that are done with");
        }
        Ok(Self { sessions })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    replica: NodeId,
    boot: u64,
    /// Everything below is done with.
    answered: u64,
    /// What has been executed at or above `answered`: no more than the replica has under way at a time.
    executed: BTreeSet<u64>,
}

impl Sessions {
    /// Notes the part; true if it is to be executed.
    pub(crate) fn admit(&mut self, ticket: &Ticket) -> bool {
        let place = self.place(ticket.replica, ticket.boot);
        let known = place.and_then(|place| self.sessions.remove(place));
        let mut session = known.unwrap_or_else(|| Session {
            replica: ticket.replica,
            boot: ticket.boot,
            answered: 0,
            executed: BTreeSet::new(),
        });
        if ticket.answered > session.answered {
            session.answered = ticket.answered;
            session.executed = session.executed.split_off(&ticket.answered);
        }
        let first = ticket.seq >= session.answered && session.executed.insert(ticket.seq);
        self.sessions.push_back(session);
        if self.sessions.len() > KEPT {
            self.sessions.pop_front();
        }
        first
    }

    /// True if a part has been executed or will never be.
    pub(crate) fn settled(&self, replica: NodeId, boot: u64, seq: u64) -> bool {
        let session = self.place(replica, boot).map(|place| &self.sessions[place]);
        session.is_some_and(|session| seq < session.answered || session.executed.contains(&seq))
    }

    fn place(&self, replica: NodeId, boot: u64) -> Option<usize> {
        self.sessions.iter().position(|session| session.replica == replica && session.boot == boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(boot: u64, seq: u64, answered: u64) -> Ticket {
        Ticket { replica: 1, boot, seq, answered }
    }

    #[test]
    fn a_part_is_executed_once_in_whatever_order_and_however_often_it_comes() {
        let mut sessions = Sessions::default();
        assert!(sessions.admit(&ticket(7, 2, 1)));
        assert!(sessions.admit(&ticket(7, 1, 1)));
        assert!(!sessions.admit(&ticket(7, 2, 1)));
        assert!(!sessions.admit(&ticket(7, 1, 1)));
        assert!(sessions.admit(&ticket(7, 3, 3)));
        assert!(!sessions.admit(&ticket(7, 2, 1)), "answered parts are never executed again");
        assert!(sessions.settled(1, 7, 2) && sessions.settled(1, 7, 3) && !sessions.settled(1, 7, 4));
        assert!(sessions.admit(&ticket(8, 1, 1)), "another run counts for itself");
        assert!(!sessions.admit(&ticket(7, 3, 3)), "and does not forget the one before");
    }

    #[test]
    fn what_no_store_remembers_is_not_read() {
        let read = |sessions: &Sessions| postcard::from_bytes(&postcard::to_allocvec(sessions).unwrap()).ok();
        let mut sessions = Sessions::default();
        assert!(sessions.admit(&ticket(7, 3, 2)));
        assert_eq!(read(&sessions), Some(sessions.clone()));
        let twice = Sessions { sessions: [&sessions.sessions[0], &sessions.sessions[0]].map(Clone::clone).into() };
        assert_eq!(read(&twice), None);
        let mut below = sessions.clone();
        below.sessions[0].executed.insert(1);
        assert_eq!(read(&below), None);
        let many = (0..=KEPT as u64).map(|boot| Session { boot, ..sessions.sessions[0].clone() });
        assert_eq!(read(&Sessions { sessions: many.collect() }), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sessions = Sessions::default();
        for boot in 0..1000 {
            for seq in 0..100 {
                assert!(sessions.admit(&ticket(boot, seq, seq.saturating_sub(3))));
            }
        }
        assert_eq!(sessions.sessions.len(), KEPT);
        assert!(sessions.sessions.iter().all(|session| session.executed.len() <= 4));
    }
}
