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
use crate::peer::PeerRecord;
use crate::state::{Phase, Signs, Standing, State};

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
    pub withdrawn_since_unix_nanos: Option<u64>,
}

/// What is known of one kind.
#[derive(Debug, Clone, Default)]
pub struct ResourceBoard {
    pub is_synced: bool,
    pub rejected: u64,
    pub last_rejection: Option<Rejection>,
}

impl Board {
    pub fn new(peer: PeerRecord, nudge: Arc<Notify>) -> Self {
        let signs = Signs {
            phase: Phase::Connecting,
            has_data: false,
            last_heartbeat: Instant::now(),
            heartbeat_interval: peer.heartbeat_interval(),
        };
        let snapshot = Snapshot {
            peer,
            standing: Standing::new(State::Connecting, clock::unix_nanos(), "starting"),
            signs,
            reason: "starting".to_owned(),
            last_heartbeat_unix_nanos: 0,
            resources: Resource::MIRRORED.into_iter().map(|r| (r, ResourceBoard::default())).collect(),
            config_rejection: None,
            trust_refusal: None,
            trusts_us: None,
            connections: 0,
            relists: 0,
            mirrored_revision: 0,
            clock_offset_micros: 0,
            withdrawn_since_unix_nanos: None,
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

    /// Enters a judged state; the reason if that is a change.
    pub(crate) fn enter(&self, state: State, is_isolated: bool, now_unix_nanos: u64) -> Option<String> {
        let mut known = self.inner.lock();
        let silence = known.signs.last_heartbeat.elapsed().as_secs();
        let reason = match state {
            State::Stale if is_isolated => {
                format!("no heartbeat for {silence} s, of no peer: own isolation suspected, nothing is withdrawn")
            }
            State::Stale | State::Withdrawn => format!("no heartbeat for {silence} s: {}", known.reason),
            _ => known.reason.clone(),
        };
        let is_change = known.standing.enter(state, now_unix_nanos, reason);
        if is_change {
            known.withdrawn_since_unix_nanos = (state == State::Withdrawn).then_some(now_unix_nanos);
        }
        is_change.then(|| known.standing.reason.clone())
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.inner.lock());
    }

    pub(super) fn phase(&self, phase: Phase, reason: impl Into<String>) {
        self.update(|known| {
            known.signs.phase = phase;
            known.reason = reason.into();
            if phase == Phase::Following && !known.signs.has_data {
                known.signs.has_data = true;
                known.signs.last_heartbeat = Instant::now();
            }
        });
        self.nudge.notify_one();
    }

    /// The peer was mirrored before this process started.
    pub(super) fn restored(&self, withdrawn_since: Option<u64>, revision: i64) {
        self.update(|known| {
            known.signs.has_data = true;
            known.mirrored_revision = revision;
            known.withdrawn_since_unix_nanos = withdrawn_since;
            if let Some(since) = withdrawn_since {
                known.standing =
                    Standing::new(State::Withdrawn, since, "withdrawn before the restart, not heard since");
            }
            for resource in known.resources.values_mut() {
                resource.is_synced = true;
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

    pub(super) fn withdrawn_since(&self) -> Option<u64> {
        self.inner.lock().withdrawn_since_unix_nanos
    }

    pub(super) fn rejected(&self, resource: Resource, rejection: Rejection) {
        tracing::warn!(peer = %rejection.peer, key = rejection.key, rule = %rejection.rule, "{rejection}");
        self.update(|known| {
            let entry = known.resources.entry(resource).or_default();
            entry.rejected += 1;
            entry.last_rejection = Some(rejection);
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
