//! When this replica stands for election.
//!
//! openraft counts the term up at once when it has heard nothing for a while, so a replica that was cut off would depose
//! the leader of the others when it comes back. Here the others are asked first (pre-vote, section 9.6 of Ongaro's thesis):
//! only if a quorum has not heard from a leader either, and has no longer log, openraft is told to elect. The times are
//! drawn here, from a generator that can be seeded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use openraft::ServerState;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log_store::LogStore;
use super::peers::Peers;
use super::rpc::{Answer, Call};
use super::timing::Timing;
use super::types::{LogId, NodeId, Raft, RaftMetrics};

pub(crate) struct Election {
    peers: Peers,
    raft: Raft,
    log: LogStore,
    timing: Timing,
    /// When a leader was last heard of, or this replica led.
    heard: Mutex<Instant>,
}

impl Election {
    pub(crate) fn new(peers: Peers, raft: Raft, log: LogStore, timing: Timing) -> Arc<Self> {
        Arc::new(Self { peers, raft, log, timing, heard: Mutex::new(Instant::now()) })
    }

    /// A leader's message was accepted.
    pub(crate) fn hear(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Whether the leader of the metrics is still one as far as this replica can tell: it was heard of lately, or it is this
    /// one and a quorum answers it. openraft itself remembers a leader until there is another one.
    pub(crate) fn hears_leader(&self) -> bool {
        let patience = self.timing.election_max * 2;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state == ServerState::Leader {
            return metrics.millis_since_quorum_ack.is_none_or(|silent| Duration::from_millis(silent) <= patience);
        }
        self.heard.lock().elapsed() <= patience
    }

    /// Would this replica vote for one whose log ends so?
    pub(crate) fn would_vote(&self, last_log_id: Option<LogId>) -> bool {
        let metrics = self.raft.metrics();
        let leads = {
            let metrics = metrics.borrow();
            let heard = metrics.millis_since_quorum_ack.map(Duration::from_millis);
            metrics.state == ServerState::Leader && heard.is_some_and(|since| since < self.timing.election_min)
        };
        !leads && self.heard.lock().elapsed() >= self.timing.election_min && last_log_id >= self.log.last_log_id()
    }

    /// Stands for election whenever nothing was heard of a leader for a random time, until it is stopped.
    pub(crate) async fn run(self: Arc<Self>, seed: u64, stop: CancellationToken) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut tried = Instant::now();
        let own = self.peers.id();
        let mut first = true;
        loop {
            let mut patience = self.patience(&mut random);
            if self.raft.metrics().borrow().membership_config.voter_ids().all(|voter| voter == own) {
                // Nobody else could lead.
                patience = if first { Duration::ZERO } else { self.timing.heartbeat };
            }
            first = false;
            let since = tried.max(*self.heard.lock());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(since + patience) => {}
            }
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.state == ServerState::Leader {
                self.hear();
                continue;
            }
            if *self.heard.lock() > since {
                continue;
            }
            tried = Instant::now();
            if !metrics.membership_config.voter_ids().any(|voter| voter == own) {
                continue;
            }
            let granted = tokio::select! {
                () = stop.cancelled() => return,
                granted = self.pre_vote(&metrics) => granted,
            };
            // Somebody else may have won in the meantime.
            if granted && *self.heard.lock() <= since {
                tracing::info!(
                    replica = own,
                    term = metrics.current_term,
                    "no leader is heard of, standing for election"
                );
                if self.raft.trigger().elect().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Between the least and the greatest, each voter in a part of its own, so that two never stand at once when both last
    /// heard the same message of a leader; random within the first half of it.
    fn patience(&self, random: &mut StdRng) -> Duration {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().collect();
        let rank = voters.iter().position(|voter| *voter == self.peers.id()).unwrap_or(0);
        turn(&self.timing, voters.len(), rank, random)
    }

    async fn pre_vote(&self, metrics: &RaftMetrics) -> bool {
        let membership = metrics.membership_config.membership();
        let own = self.peers.id();
        let mut granted = BTreeSet::from([own]);
        let last_log_id = self.log.last_log_id();
        let asked = membership.voter_ids().filter(|id| *id != own).filter_map(|id| {
            let peer = membership.get_node(&id)?;
            let call = self.peers.call(id, peer, Call::PreVote { last_log_id }, self.timing.election_min / 2);
            Some(async move { (id, call.await) })
        });
        let mut answers: FuturesUnordered<_> = asked.collect();
        loop {
            if is_quorum(membership.get_joint_config(), &granted) {
                return true;
            }
            match answers.next().await {
                None => return false,
                Some((id, Ok(Answer::PreVote { granted: true }))) => {
                    granted.insert(id);
                }
                Some(_) => {}
            }
        }
    }
}

fn turn(timing: &Timing, voters: usize, rank: usize, random: &mut StdRng) -> Duration {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let part = timing.election_max.saturating_sub(timing.election_min) / count(voters.max(1));
    timing.election_min + part * count(rank) + random.random_range(Duration::ZERO..=part / 2)
}

fn is_quorum(configs: &[BTreeSet<NodeId>], granted: &BTreeSet<NodeId>) -> bool {
    configs.iter().all(|voters| voters.intersection(granted).count() * 2 > voters.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_voters_lose_patience_at_the_same_time() {
        let (timing, mut random) = (Timing::default(), StdRng::seed_from_u64(1));
        for voters in [1, 3, 5] {
            let part = timing.election_max.saturating_sub(timing.election_min) / voters;
            for _ in 0..100 {
                let turns: Vec<_> =
                    (0..voters).map(|rank| turn(&timing, voters as usize, rank as usize, &mut random)).collect();
                assert!(turns.iter().all(|turn| (timing.election_min..timing.election_max).contains(turn)));
                assert!(turns.windows(2).all(|pair| pair[1] >= pair[0] + part / 2), "{turns:?}");
            }
        }
    }

    #[test]
    fn a_quorum_is_a_majority_of_each_config_of_a_joint_one() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert!(is_quorum(&[set(&[1, 2, 3])], &set(&[1, 3])));
        assert!(!is_quorum(&[set(&[1, 2, 3, 4])], &set(&[1, 3])));
        assert!(!is_quorum(&[set(&[1, 2, 3]), set(&[3, 4, 5])], &set(&[1, 2, 3])));
        assert!(is_quorum(&[set(&[1, 2, 3]), set(&[3, 4, 5])], &set(&[2, 3, 4])));
    }
}
