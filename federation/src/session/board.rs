//! What is known of one peer's session, for status, metrics and the judgement of liveness.
//!
//! The session writes its own steps and counts, the judge writes the standing; everyone reads copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::CaHash;
use mesh_runtime::clock;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::contract::Resource;
use crate::contract::validate::Rejection;
use crate::health::{Health, Loss};
use crate::liveness::Verdict;
use crate::outlook::{Paths, Sight};
use crate::peer::PeerRecord;
use crate::state::{Phase, Signs, Standing, State};

/// A session that has just begun is not held to have lost its connection before this.
const FIRST_CONNECTION: Duration = Duration::from_secs(1);

/// Shared by a session, the judge and the handle.
#[derive(Clone)]
pub struct Board {
    inner: Arc<Mutex<Snapshot>>,
    /// Wakes the judge.
    nudge: Arc<Notify>,
}

/// A copy of what is known.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub peer: PeerRecord,
    pub standing: Standing,
    pub signs: Signs,
    /// What the session is at, or why its last connection ended.
    pub reason: String,
    /// 0 until one arrives.
    pub last_heartbeat_unix_nanos: u64,
    pub resources: BTreeMap<Resource, ResourceBoard>,
    pub config_rejection: Option<Rejection>,
    /// Why the CAs that it says are its own were not taken over.
    pub trust_refusal: Option<String>,
    /// The CAs by which it says that it trusts this cluster.
    pub trusts_us: Option<BTreeSet<CaHash>>,
    pub connections: u64,
    pub relists: u64,
    pub mirrored_revision: i64,
    /// Source's clock at its newest write less the own when it arrived: skew less delay.
    pub clock_offset_micros: i64,
    /// How the own agents see it together; `None` while none probes it.
    pub sight: Option<Sight>,
}

/// What is known of one kind.
#[derive(Debug, Clone, Default)]
pub struct ResourceBoard {
    pub is_synced: bool,
    pub rejected: u64,
    pub last_rejection: Option<Rejection>,
    /// Changes of keys that no import rule takes from this peer.
    pub not_imported: u64,
    /// The newest such key, without the prefix of its kind.
    pub last_not_imported: Option<String>,
}

/// Whether the `n`-th rejection of a kind is.
fn is_logged(n: u64) -> bool {
    n <= 16 || n.is_power_of_two()
}

impl Board {
    /// `former`: what an earlier term concluded, where that still counts.
    pub fn new(peer: PeerRecord, former: Option<&Health>, nudge: Arc<Notify>) -> Self {
        let signs = Signs {
            phase: Phase::Connecting,
            has_data: false,
            last_heartbeat: Instant::now(),
            heartbeat_interval: peer.heartbeat_interval(),
            unconnected_since: Some(Instant::now() + FIRST_CONNECTION),
            paths: Paths::Unknown,
        };
        let standing = match former {
            Some(former) => Standing::new(former.state, former.since_unix_nanos, former.reason.clone()),
            None => Standing::new(State::Connecting, clock::unix_nanos(), "starting"),
        };
        let snapshot = Snapshot {
            peer,
            standing,
            signs,
            reason: "starting".to_owned(),
            last_heartbeat_unix_nanos: 0,
            resources: BTreeMap::new(),
            config_rejection: None,
            trust_refusal: None,
            trusts_us: None,
            connections: 0,
            relists: 0,
            mirrored_revision: 0,
            clock_offset_micros: 0,
            sight: None,
        };
        Self { inner: Arc::new(Mutex::new(snapshot)), nudge }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.inner.lock().clone()
    }

    /// What the judge needs, without a copy of the rest.
    pub fn judged(&self) -> (State, Signs) {
        let known = self.inner.lock();
        (known.standing.state, known.signs)
    }

    /// Takes in how the own agents see the cluster.
    pub(crate) fn see(&self, sight: Option<&Sight>) {
        let mut known = self.inner.lock();
        known.signs.paths = sight.map(|sight| sight.paths).unwrap_or_default();
        if known.sight.as_ref() != sight {
            known.sight = sight.cloned();
        }
    }

    /// Enters what was judged; the reason if the state is another one. `own_side` says why nothing is concluded.
    pub(crate) fn enter(&self, verdict: Verdict, own_side: Option<&str>, now_unix_nanos: u64) -> Option<String> {
        let mut known = self.inner.lock();
        let reason = reason(&known, verdict, own_side);
        let is_change = known.standing.enter(verdict.state, now_unix_nanos, reason);
        is_change.then(|| known.standing.reason.clone())
    }

    /// The verdict as the store carries it.
    pub(crate) fn health(&self, verdict: Verdict) -> Health {
        let known = self.inner.lock();
        Health {
            state: verdict.state,
            since_unix_nanos: known.standing.since_unix_nanos,
            reason: known.standing.reason.clone(),
            loss: verdict.loss,
            last_heartbeat_unix_nanos: known.last_heartbeat_unix_nanos,
            outlived_seconds: verdict.outlived.as_secs(),
            stale_seconds: verdict.stale.as_secs(),
        }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.inner.lock());
    }

    /// Wakes the judge, who looks at all peers, only for what he judges by.
    pub(super) fn phase(&self, phase: Phase, reason: impl Into<String>) {
        let mut known = self.inner.lock();
        let before = (known.signs.phase, known.signs.unconnected_since);
        known.signs.phase = phase;
        known.signs.unconnected_since = match phase {
            Phase::Connecting => known.signs.unconnected_since.or_else(|| Some(Instant::now())),
            Phase::Configuring | Phase::Syncing | Phase::Following => None,
        };
        known.reason = reason.into();
        let mut is_news = before != (phase, known.signs.unconnected_since);
        if phase == Phase::Following && !known.signs.has_data {
            known.signs.has_data = true;
            known.signs.last_heartbeat = Instant::now();
            is_news = true;
        }
        drop(known);
        if is_news {
            self.nudge.notify_one();
        }
    }

    /// The peer was mirrored before this process started.
    pub(super) fn restored(&self, revision: i64, synced: impl Iterator<Item = Resource>) {
        self.update(|known| {
            known.signs.has_data = true;
            known.mirrored_revision = revision;
            for resource in synced {
                known.resources.entry(resource).or_default().is_synced = true;
            }
        });
        self.nudge.notify_one();
    }

    pub(super) fn heartbeat(&self) {
        self.update(|known| {
            known.signs.last_heartbeat = Instant::now();
            known.last_heartbeat_unix_nanos = clock::unix_nanos();
        });
        if self.judged().0 != State::Live {
            self.nudge.notify_one();
        }
    }

    pub(super) fn silence(&self) -> Duration {
        self.inner.lock().signs.last_heartbeat.elapsed()
    }

    /// A peer decides how often this happens, but not how much is logged of it: the first ones each, then ever fewer.
    pub(super) fn rejected(&self, resource: Resource, rejection: Rejection) {
        let mut known = self.inner.lock();
        let entry = known.resources.entry(resource).or_default();
        entry.rejected += 1;
        let rejected = entry.rejected;
        if is_logged(rejected) {
            tracing::warn!(peer = %rejection.peer, key = rejection.key, rule = %rejection.rule, rejected, "{rejection}");
        }
        entry.last_rejection = Some(rejection);
    }

    /// What the peer says that it exports.
    pub(super) fn exported(&self, resources: &[Resource]) {
        self.update(|known| {
            known.resources.retain(|resource, _| resources.contains(resource));
            for resource in resources {
                known.resources.entry(*resource).or_default();
            }
        });
    }

    /// Left out because of this cluster's own rules.
    pub(super) fn not_imported(&self, resource: Resource, rest: &str) {
        self.update(|known| {
            let entry = known.resources.entry(resource).or_default();
            entry.not_imported += 1;
            entry.last_not_imported = Some(rest.to_owned());
        });
    }

    pub(super) fn synced(&self, resource: Resource, is_synced: bool) {
        self.update(|known| known.resources.entry(resource).or_default().is_synced = is_synced);
    }

    pub(super) fn source_clock(&self, unix_nanos: u64) {
        let offset = (i128::from(unix_nanos) - i128::from(clock::unix_nanos())) / 1000;
        let offset = i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        self.update(|known| known.clock_offset_micros = offset);
    }
}

/// Why a cluster is in the state that it is in.
fn reason(known: &Snapshot, verdict: Verdict, own_side: Option<&str>) -> String {
    let silence = known.signs.last_heartbeat.elapsed().as_secs();
    let is_down = matches!(known.signs.paths, Paths::Down { .. });
    let seen_by = known.sight.as_ref().map(|sight| sight.unreached_by.join(", ")).unwrap_or_default();
    let no_path = format!("no path to any of its nodes, as {seen_by} see it");
    let control = match known.signs.phase {
        Phase::Following => "its control plane answers".to_owned(),
        _ => format!("no control: {}", known.reason),
    };
    match (verdict.loss, own_side) {
        (Some(_), _) if known.signs.phase == Phase::Following && !is_down => {
            "answers again: used as soon as that has lasted a while".to_owned()
        }
        (Some(Loss::Cluster | Loss::Paths), _) if is_down => format!("{no_path}; {control}"),
        (Some(_), _) => format!("no heartbeat for {silence} s: {}", known.reason),
        (None, Some(own_side)) if verdict.state == State::Stale => {
            format!("{own_side}: nothing is withdrawn; {control}")
        }
        (None, _) if verdict.state == State::Stale => format!("no heartbeat for {silence} s: {}", known.reason),
        (None, _) if is_down => format!("{}; {no_path}", known.reason),
        (None, _) => known.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_rejected_without_end_does_not_fill_the_log() {
        assert!((1..=16).all(is_logged));
        assert_eq!((1..=1_000_000).filter(|n| is_logged(*n)).count(), 16 + 15);
    }
}
