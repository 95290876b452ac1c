//! A leader that no quorum answers falls silent, so that the others elect one that they do answer.
//!
//! openraft's leader goes on sending for ever. If only the way back to it is broken, the others hear it, elect nobody, and
//! nothing is ever committed. So it is silent for longer than their patience, then speaks for a while, and so on: should
//! the others have been away, they find it again.

use std::time::Duration;

use openraft::ServerState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::peers::Peers;
use super::timing::Timing;
use super::types::Raft;

pub(crate) async fn watch(raft: Raft, peers: Peers, timing: Timing, stop: CancellationToken) {
    let mut tick = tokio::time::interval(timing.heartbeat);
    let mut silence = Silence::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let alone = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let unanswered = metrics.millis_since_quorum_ack.map(Duration::from_millis);
            (metrics.state == ServerState::Leader).then_some(unanswered).flatten()
        };
        let silent = silence.observe(alone, Instant::now(), timing.election_max);
        if silent && !peers.is_silent() {
            tracing::warn!("no quorum has answered this leader for a while: it keeps silent, so that another may lead");
        }
        peers.set_silent(silent);
    }
}

/// When silence began or ended last.
#[derive(Debug, Default)]
struct Silence {
    since: Option<Instant>,
    silent: bool,
}

impl Silence {
    /// `alone` is how long no quorum has answered this leader; `None` for one that does not lead.
    fn observe(&mut self, alone: Option<Duration>, now: Instant, patience: Duration) -> bool {
        if alone.is_none_or(|alone| alone <= patience) {
            *self = Self::default();
            return false;
        }
        let lasts = if self.silent { patience * 2 } else { patience };
        if self.since.is_none_or(|since| now >= since + lasts) {
            self.silent = !self.silent;
            self.since = Some(now);
        }
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_without_a_quorum_is_silent_and_speaks_by_turns() {
        let patience = Duration::from_secs(1);
        let start = Instant::now();
        let mut silence = Silence::default();
        let mut at = |seconds: u64, alone: Option<u64>| {
            silence.observe(alone.map(Duration::from_secs), start + Duration::from_secs(seconds), patience)
        };
        assert!(!at(0, None) && !at(1, Some(1)));
        assert!(at(2, Some(2)) && at(3, Some(3)));
        assert!(!at(4, Some(4)), "after twice its patience it speaks");
        assert!(at(5, Some(5)));
        assert!(!at(6, Some(0)), "and at once when it is answered");
    }
}
