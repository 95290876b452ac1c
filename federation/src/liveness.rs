//! Whether a cluster's facts may still be used, judged from its heartbeat. Pure: (now, signs, settings) -> state.
//!
//! Losing control of a cluster keeps it serving for a while; only the end of the grace withdraws it. When all clusters
//! fall silent at the same moment the fault is likely on the own side, and nothing is concluded.

use std::time::{Duration, Instant};

use crate::state::{Phase, Signs, State};

/// Both periods count from the newest heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub stale_after: Duration,
    pub withdraw_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { stale_after: Duration::from_secs(15), withdraw_after: Duration::from_secs(45) }
    }
}

impl Settings {
    /// The periods for a source with this heartbeat: never less than three of its beats, the grace kept as it is.
    #[must_use]
    pub fn scaled(self, heartbeat: Duration) -> Self {
        let stale_after = self.stale_after.max(heartbeat * 3);
        let grace = self.withdraw_after.saturating_sub(self.stale_after);
        Self { stale_after, withdraw_after: stale_after + grace }
    }
}

/// The state that follows from what is known now.
///
/// # Invariants
/// - Without mirrored facts the state is the session's own step: there is nothing to withdraw.
/// - A state of loss ends only with a fresh heartbeat *and* a session that has caught up.
/// - `isolated` never withdraws anything, and never brings back what was withdrawn.
pub fn judge(now: Instant, previous: State, signs: &Signs, settings: Settings, isolated: bool) -> State {
    if !signs.has_data {
        return signs.phase.into();
    }
    let settings = settings.scaled(signs.heartbeat_interval);
    let silence = now.saturating_duration_since(signs.last_heartbeat);
    if silence < settings.stale_after {
        return if signs.phase == Phase::Following { State::Live } else { previous };
    }
    if previous == State::Withdrawn || (silence >= settings.withdraw_after && !isolated) {
        State::Withdrawn
    } else {
        State::Stale
    }
}

/// Whether all clusters that were in use fell silent together: at least two, none heard, their last signs close in time.
pub fn is_isolated(now: Instant, peers: &[(State, Signs)], settings: Settings) -> bool {
    let in_use = || peers.iter().filter(|(state, signs)| signs.has_data && *state != State::Withdrawn).map(|(_, s)| s);
    let silent = |s: &Signs| {
        now.saturating_duration_since(s.last_heartbeat) >= settings.scaled(s.heartbeat_interval).stale_after
    };
    if in_use().count() < 2 || !in_use().all(silent) {
        return false;
    }
    let first = in_use().map(|s| s.last_heartbeat).min();
    let last = in_use().map(|s| s.last_heartbeat).max();
    let window = in_use().map(|s| settings.scaled(s.heartbeat_interval).stale_after).max();
    match (first, last, window) {
        (Some(first), Some(last), Some(window)) => last.duration_since(first) <= window,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(5);

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn silence_turns_live_into_stale_into_withdrawn() {
        use Phase::{Configuring, Connecting, Following, Syncing};
        use State::{Live, Stale, Withdrawn};
        let start = Instant::now();
        // (what, phase, has data, silence, previous, isolated) -> state
        let table = [
            ("first connection", Connecting, false, 60, State::Connecting, false, State::Connecting),
            ("first configuration", Configuring, false, 60, State::Connecting, false, State::Configuring),
            ("first sync", Syncing, false, 60, State::Configuring, false, State::Syncing),
            ("first sync done", Following, true, 0, State::Syncing, false, Live),
            ("beating", Following, true, 14, Live, false, Live),
            ("connection lost for a moment", Connecting, true, 3, Live, false, Live),
            ("silent", Following, true, 15, Live, false, Stale),
            ("silent without connection", Connecting, true, 44, Stale, false, Stale),
            ("silent past the grace", Connecting, true, 45, Stale, false, Withdrawn),
            ("isolated: not withdrawn", Connecting, true, 500, Stale, true, Stale),
            ("isolated: withdrawn stays so", Connecting, true, 500, Withdrawn, true, Withdrawn),
            ("withdrawn, beat heard, not caught up", Connecting, true, 1, Withdrawn, false, Withdrawn),
            ("withdrawn, silent again", Connecting, true, 16, Withdrawn, false, Withdrawn),
            ("withdrawn, caught up", Following, true, 1, Withdrawn, false, Live),
            ("stale, not caught up", Syncing, true, 1, Stale, false, Stale),
            ("restarted with mirrored facts", Connecting, true, 2, State::Connecting, false, State::Connecting),
            ("restarted, peer gone", Connecting, true, 46, Stale, false, Withdrawn),
        ];
        for (what, phase, has_data, silence, previous, isolated, want) in table {
            let signs = Signs { phase, has_data, last_heartbeat: start, heartbeat_interval: BEAT };
            let got = judge(start + secs(silence), previous, &signs, Settings::default(), isolated);
            assert_eq!(got, want, "{what}");
        }
    }

    #[test]
    fn a_slower_heartbeat_gets_longer_periods() {
        let cilium = Settings::default().scaled(secs(60));
        assert_eq!(cilium, Settings { stale_after: secs(180), withdraw_after: secs(210) });
        assert_eq!(Settings::default().scaled(BEAT), Settings::default());
    }

    #[test]
    fn only_a_loss_of_all_at_once_is_taken_for_the_own_fault() {
        let start = Instant::now();
        let peer = |state, beat: u64| {
            let last_heartbeat = start + secs(beat);
            (state, Signs { phase: Phase::Connecting, has_data: true, last_heartbeat, heartbeat_interval: BEAT })
        };
        let at = |now: u64, peers: &[(State, Signs)]| is_isolated(start + secs(now), peers, Settings::default());
        assert!(at(25, &[peer(State::Live, 0), peer(State::Live, 10)]), "both silent");
        assert!(at(600, &[peer(State::Stale, 0), peer(State::Stale, 10)]), "both silent for long");
        assert!(!at(24, &[peer(State::Live, 0), peer(State::Live, 10)]), "one was just heard");
        assert!(!at(600, &[peer(State::Stale, 0)]), "a single peer tells nothing");
        assert!(!at(600, &[peer(State::Stale, 0), peer(State::Stale, 16)]), "not at once");
        assert!(!at(600, &[peer(State::Withdrawn, 0), peer(State::Live, 10)]), "one was lost before");
        let empty = (State::Connecting, Signs { has_data: false, ..peer(State::Live, 0).1 });
        assert!(!at(600, &[empty, peer(State::Live, 10)]), "a cluster never heard does not count");
    }
}
