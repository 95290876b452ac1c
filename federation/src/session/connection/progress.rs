//! How far a connection has come, told to the board in words: which phase, and what it waits for. Never changes the connection.

use std::collections::BTreeSet;

use super::Connection;
use crate::contract::cluster_config::Capabilities;
use crate::mirror::Watched;
use crate::state::Phase;

/// How far the connection has come. But for what is wanted, it is made of what only ever grows, so that equal figures are
/// equal progress.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    is_connected: bool,
    has_config: bool,
    wanted: usize,
    asked: usize,
    standing: usize,
}

impl Connection<'_> {
    /// Called with every message: tells the board only what is new.
    pub(super) fn show_phase(&mut self) {
        let nothing = Capabilities::default();
        let capabilities = self.config.as_ref().map_or(&nothing, |config| &config.capabilities);
        let progress = Progress {
            is_connected: self.session.is_connected,
            has_config: self.config.is_some(),
            wanted: Watched::ALL.into_iter().filter(|w| w.is_wanted(capabilities)).count(),
            asked: self.asked.len(),
            standing: self.standing.len(),
        };
        if self.shown.replace(progress) == Some(progress) {
            return;
        }
        let missing = |set: &BTreeSet<Watched>| {
            let missing = Watched::ALL.into_iter().filter(|w| w.is_wanted(capabilities) && !set.contains(w));
            missing.map(Watched::name).collect::<Vec<_>>().join(", ")
        };
        let (phase, reason) = if !self.session.is_connected {
            (Phase::Connecting, "awaiting its first answer".to_owned())
        } else if self.config.is_none() {
            (Phase::Configuring, "awaiting its cluster-config".to_owned())
        } else if !missing(&self.asked).is_empty() {
            (Phase::Syncing, format!("awaiting its canaries: {}", missing(&self.asked)))
        } else if !missing(&self.standing).is_empty() {
            (Phase::Syncing, format!("awaiting the watches of {}", missing(&self.standing)))
        } else {
            (Phase::Following, "all watches stand".to_owned())
        };
        self.session.board.phase(phase, reason);
    }
}
