//! Whether the fault is on the own side: clusters do not die together, but an own uplink takes all of them away at once.
//!
//! With a single cluster in use the two cannot be told apart; then its loss is believed, and the own backends serve on.

use std::time::{Duration, Instant};

use super::{Settings, UNCONNECTED};
use crate::outlook::Paths;
use crate::state::{Signs, State};

/// Losses that lie closer are one loss: paths are seen to be down within two seconds of a cut, sessions too.
const TOGETHER: Duration = Duration::from_secs(3);
/// Clusters that come back one after the other are not held against the last one for this long.
const REUNION: Duration = Duration::from_secs(5);

/// The judgement over all peers together, with what it remembers.
#[derive(Debug, Clone, Default)]
pub struct OwnSide {
    until: Option<Instant>,
}

impl OwnSide {
    /// Whether the own side is at fault now, or was until a moment ago.
    pub fn look(&mut self, now: Instant, peers: &[(State, Signs)], settings: Settings) -> bool {
        if lost_together(now, peers) || silent_together(now, peers, settings) {
            self.until = Some(now + REUNION);
        }
        self.until.is_some_and(|until| now < until)
    }
}

/// Those that there is something to withdraw of.
fn in_use(peers: &[(State, Signs)]) -> impl Iterator<Item = &Signs> {
    peers.iter().filter(|(state, signs)| signs.has_data && *state != State::Withdrawn).map(|(_, signs)| signs)
}

/// No path to any of at least two clusters, since about the same moment. One that nobody probes counts by its session.
fn lost_together(now: Instant, peers: &[(State, Signs)]) -> bool {
    let lost_at = |signs: &Signs| match signs.paths {
        Paths::Down { since } => Some(since),
        Paths::Unknown if signs.unconnected_for(now) >= UNCONNECTED => signs.unconnected_since,
        Paths::Unknown | Paths::Up => None,
    };
    let is_about_paths = in_use(peers).any(|signs| matches!(signs.paths, Paths::Down { .. }));
    let Some(lost) = in_use(peers).map(lost_at).collect::<Option<Vec<Instant>>>() else { return false };
    is_about_paths && lost.len() >= 2 && are_within(&lost, TOGETHER)
}

/// No heartbeat of any of at least two clusters, the last signs close in time; the paths may be well.
fn silent_together(now: Instant, peers: &[(State, Signs)], settings: Settings) -> bool {
    let stale_after = |signs: &Signs| settings.scaled(signs.heartbeat_interval).stale_after;
    let is_silent = |signs: &Signs| now.saturating_duration_since(signs.last_heartbeat) >= stale_after(signs);
    let last: Vec<Instant> = in_use(peers).map(|signs| signs.last_heartbeat).collect();
    let window = in_use(peers).map(stale_after).max().unwrap_or_default();
    last.len() >= 2 && in_use(peers).all(is_silent) && are_within(&last, window)
}

fn are_within(times: &[Instant], window: Duration) -> bool {
    match (times.iter().min(), times.iter().max()) {
        (Some(first), Some(last)) => last.duration_since(*first) <= window,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
