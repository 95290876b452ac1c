//! What state a session is in, since when and why. A pure value; the clock is the caller's.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::outlook::Paths;

/// ```text
///  Connecting -> Configuring -> Syncing -> Live -> Stale -> Withdrawn
///       the session's own steps           ^         |         |
///                                         +---------+---------+   all well again, for a while
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No connection to any endpoint yet.
    Connecting,
    /// Connected; its cluster-config and canaries are awaited.
    Configuring,
    /// Its facts are being read for the first time.
    Syncing,
    /// Everything is mirrored and its heartbeat arrives.
    Live,
    /// No heartbeat for `stale_after`: its facts are still used.
    Stale,
    /// It is lost, or its grace has ended: its backends are not used; its facts stay mirrored.
    Withdrawn,
}

impl State {
    pub const ALL: [Self; 6] =
        [Self::Connecting, Self::Configuring, Self::Syncing, Self::Live, Self::Stale, Self::Withdrawn];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Configuring => "Configuring",
            Self::Syncing => "Syncing",
            Self::Live => "Live",
            Self::Stale => "Stale",
            Self::Withdrawn => "Withdrawn",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far the session itself has come on its present connection, whatever its heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Phase {
    #[default]
    Connecting,
    Configuring,
    Syncing,
    /// Every watch stands and everything before it has been mirrored.
    Following,
}

impl From<Phase> for State {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Connecting => Self::Connecting,
            Phase::Configuring => Self::Configuring,
            Phase::Syncing => Self::Syncing,
            Phase::Following => Self::Live,
        }
    }
}

/// A state with the time it was entered and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    /// Unix nanoseconds.
    pub since_unix_nanos: u64,
    pub reason: String,
}

impl Standing {
    pub fn new(state: State, now_unix_nanos: u64, reason: impl Into<String>) -> Self {
        Self { state, since_unix_nanos: now_unix_nanos, reason: reason.into() }
    }

    /// Enters `state`; true when that is a change. Staying keeps the time, and takes the newer reason.
    pub fn enter(&mut self, state: State, now_unix_nanos: u64, reason: impl Into<String>) -> bool {
        self.reason = reason.into();
        if self.state == state {
            return false;
        }
        self.state = state;
        self.since_unix_nanos = now_unix_nanos;
        true
    }
}

/// What liveness is judged from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    pub phase: Phase,
    /// Something is mirrored, so there is something to keep or withdraw.
    pub has_data: bool,
    /// When the newest heartbeat arrived; the start of watching where none has arrived yet.
    pub last_heartbeat: Instant,
    pub heartbeat_interval: Duration,
    /// Since when the session has had no connection; `None` while it has one. In the future right after a start, so that
    /// a first connection has time to be made.
    pub unconnected_since: Option<Instant>,
    pub paths: Paths,
}

impl Signs {
    /// For how long there has been no connection; zero while there is one.
    pub fn unconnected_for(&self, now: Instant) -> Duration {
        self.unconnected_since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staying_in_a_state_keeps_its_time_and_takes_the_newer_reason() {
        let mut standing = Standing::new(State::Connecting, 10, "starting");
        assert!(!standing.enter(State::Connecting, 20, "connection refused"));
        assert_eq!((standing.since_unix_nanos, standing.reason.as_str()), (10, "connection refused"));
        assert!(standing.enter(State::Live, 30, "all mirrored"));
        assert_eq!(standing, Standing::new(State::Live, 30, "all mirrored"));
    }
}
