//! Whether a cluster's backends may still be used. Pure: (now, signs, settings) -> verdict.
//!
//! Two signals: *control*, the session and the heartbeat of the cluster itself; *paths*, whether packets reach its nodes, as
//! the own agents see it together.
//!
//! ```text
//!  control   paths      verdict                                                 withdrawn after
//!  heard     up, ?      Live                                                    -
//!  lost      up, ?      Live, Stale at `stale_after`                            `withdraw_after` of silence
//!  heard     down       Live; every agent avoids its own dead paths             PATHS_ALONE
//!  lost      down       the cluster is dead                                     SETTLE
//!  all clusters lost together: the own side is at fault, nothing is concluded   -
//! ```
//! It returns when everything has been well for a while: [`STEADY`], longer the more often it was lost lately.

use std::time::{Duration, Instant};

use mesh_types::withdrawal::Periods;

use crate::health::{Health, Loss};
use crate::outlook::Paths;
use crate::state::{Phase, Signs, State};

mod own_side;

pub use own_side::OwnSide;

/// For how long paths are down before a cluster whose control is lost as well counts as dead. Longer than what lies between
/// the first and the last cluster that is seen to be lost when the own uplink goes (one probe and one report).
pub const SETTLE: Duration = Duration::from_millis(800);
/// For how long a session has no connection before control counts as lost: a replica that ends costs less.
pub const UNCONNECTED: Duration = Duration::from_millis(500);
/// For how long paths are down before a cluster whose control is well is withdrawn for everybody.
pub const PATHS_ALONE: Duration = Duration::from_secs(10);
/// For how long all must be well before withdrawn backends come back.
pub const STEADY: Duration = Duration::from_secs(1);
/// Each loss so soon after a return doubles that time, up to [`LONGEST_STEADY`].
pub const FLAPPING: Duration = Duration::from_mins(1);
pub const LONGEST_STEADY: Duration = Duration::from_secs(32);

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

/// What follows from what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    /// Set exactly while `state` is `Withdrawn`.
    pub loss: Option<Loss>,
    /// The longest period in use that the cluster's silence has outlived.
    pub outlived: Duration,
    /// The same of the periods after which it is shown as stale; hides nothing.
    pub stale: Duration,
}

impl Verdict {
    const fn of(state: State) -> Self {
        Self { state, loss: None, outlived: Duration::ZERO, stale: Duration::ZERO }
    }

    /// Some Service does not use its backends.
    fn hides(&self) -> bool {
        self.loss.is_some() || !self.outlived.is_zero()
    }
}

/// What every peer is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub settings: Settings,
    /// What Services of the own cluster ask for.
    pub periods: &'a Periods,
    /// After how much silence they show a cluster as stale.
    pub stale_periods: &'a Periods,
    /// The fault seems to be on the own side.
    pub own_side: bool,
}

/// The judgement over one peer, with what it remembers.
///
/// # Invariants
/// - Without mirrored facts the state is the session's own step: there is nothing to withdraw.
/// - A state of loss ends only with a fresh heartbeat, a session that has caught up, and paths that are not down.
/// - A fault of the own side never withdraws anything, and never brings back what was withdrawn.
/// - Control alone never withdraws before its grace ends.
#[derive(Debug, Clone)]
pub struct Judge {
    verdict: Verdict,
    /// Since when all is well, while it is.
    well_since: Option<Instant>,
    returned_at: Option<Instant>,
    steady: Duration,
}

impl Default for Judge {
    fn default() -> Self {
        Self { verdict: Verdict::of(State::Connecting), well_since: None, returned_at: None, steady: STEADY }
    }
}

impl Judge {
    /// Goes on from what an earlier term concluded.
    pub fn resumed(former: &Health) -> Self {
        let verdict = Verdict {
            state: former.state,
            loss: former.loss,
            outlived: Duration::from_secs(former.outlived_seconds),
            stale: Duration::from_secs(former.stale_seconds),
        };
        // What is hidden stays so until the cluster is well again; anything else is the session's own step now.
        let verdict = if verdict.hides() { verdict } else { Verdict::of(State::Connecting) };
        Self { verdict, ..Self::default() }
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The verdict that follows from what is known now.
    pub fn judge(&mut self, now: Instant, signs: &Signs, rules: Rules<'_>) -> Verdict {
        let before = self.verdict;
        self.verdict = if signs.has_data { self.of_known(now, signs, rules) } else { Verdict::of(signs.phase.into()) };
        if signs.has_data {
            let stale = outlived(rules.stale_periods, now, signs).unwrap_or_default();
            // What its silence made stale stays so until it is live again.
            let is_live = self.verdict.state == State::Live;
            self.verdict.stale = if is_live { stale } else { stale.max(before.stale) };
        }
        if !before.hides() && self.verdict.hides() {
            let is_flapping = self.returned_at.is_some_and(|at| now.saturating_duration_since(at) < FLAPPING);
            self.steady = if is_flapping { (self.steady * 2).min(LONGEST_STEADY) } else { STEADY };
        }
        if before.hides() && !self.verdict.hides() {
            self.returned_at = Some(now);
        }
        self.verdict
    }

    fn of_known(&mut self, now: Instant, signs: &Signs, rules: Rules<'_>) -> Verdict {
        let before = self.verdict;
        let settings = rules.settings.scaled(signs.heartbeat_interval);
        let silence = now.saturating_duration_since(signs.last_heartbeat);
        let is_heard = silence < settings.stale_after;
        let down_for = match signs.paths {
            Paths::Down { since } => Some(now.saturating_duration_since(since)),
            Paths::Up | Paths::Unknown => None,
        };
        if is_heard && signs.phase == Phase::Following && down_for.is_none() {
            let well_since = *self.well_since.get_or_insert(now);
            let is_steady = !before.hides() || now.saturating_duration_since(well_since) >= self.steady;
            return if is_steady { Verdict::of(State::Live) } else { before };
        }
        self.well_since = None;
        let control_lost = !is_heard || signs.unconnected_for(now) >= UNCONNECTED;
        let is_dead = control_lost && down_for.is_some_and(|down| down >= SETTLE);
        let loss = if is_dead {
            Some(Loss::Cluster)
        } else if down_for.is_some_and(|down| down >= PATHS_ALONE) {
            Some(Loss::Paths)
        } else {
            (silence >= settings.withdraw_after).then_some(Loss::Control)
        };
        let outlived = outlived(rules.periods, now, signs);
        let (loss, outlived) = if rules.own_side { (None, None) } else { (loss, outlived) };
        let loss = loss.max(before.loss);
        let state = if loss.is_some() {
            State::Withdrawn
        } else if !is_heard || is_dead {
            State::Stale
        } else {
            before.state
        };
        Verdict { state, loss, outlived: outlived.unwrap_or_default().max(before.outlived), stale: Duration::ZERO }
    }
}

/// The longest of the periods that the silence has outlived. None of them is shorter than three heartbeats of the source.
fn outlived(periods: &Periods, now: Instant, signs: &Signs) -> Option<Duration> {
    let silence = now.saturating_duration_since(signs.last_heartbeat);
    let least = signs.heartbeat_interval * 3;
    periods.iter().copied().filter(|period| silence >= (*period).max(least)).max()
}

#[cfg(test)]
mod tests;
