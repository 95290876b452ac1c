//! The applied state of this replica, shared between the one task that changes it and all that read it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use mesh_store_mvcc::{Command, Response, State};
use openraft::EntryPayload;
use parking_lot::RwLock;

use super::lease_clock::LeaseClock;
use super::snapshot::Snapshot;
use super::types::{CommandResult, Content, Entry, LogId, Membership, Outcome, SnapshotMeta};
use super::watch_hub::WatchHub;
use crate::backend::Member;
use crate::metrics::Metrics;

/// How many commands are applied before readers get a chance.
const COMMANDS_PER_LOCK: usize = 32;

/// What the log up to `last` has led to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) mvcc: State,
    pub(crate) cluster_id: u64,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: Membership,
}

/// Changed only by openraft's state machine task; read by everyone.
pub(crate) struct Replica {
    pub(crate) state: RwLock<Applied>,
    pub(crate) hub: Arc<WatchHub>,
    pub(crate) leases: LeaseClock,
    pub(crate) metrics: Metrics,
    /// Copies of what `state` holds, for readers that need nothing else.
    revision: AtomicI64,
    cluster_id: AtomicU64,
    term: AtomicU64,
}

impl Replica {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let state = Applied::default();
        let revision = AtomicI64::new(state.mvcc.revision());
        Self {
            state: RwLock::new(state),
            hub: Arc::default(),
            leases: LeaseClock::default(),
            metrics,
            revision,
            cluster_id: AtomicU64::new(0),
            term: AtomicU64::new(0),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id.load(Ordering::Acquire)
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    pub(crate) fn voters(&self) -> usize {
        self.state.read().membership.membership().voter_ids().count()
    }

    /// The replicas of the group as applied here, in order of their ids.
    pub(crate) fn members(&self) -> Vec<Member> {
        let state = self.state.read();
        let membership = state.membership.membership();
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        membership.nodes().map(|(id, peer)| peer.member(*id, !voters.contains(id))).collect()
    }

    /// Applies one log entry and answers the clients that wait for it.
    pub(crate) fn apply(&self, entry: Entry) -> Outcome {
        let started = Instant::now();
        let results = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Membership(membership) => {
                self.state.write().membership = Membership::new(Some(entry.log_id), membership);
                Vec::new()
            }
            EntryPayload::Normal(proposal) => match proposal.content {
                Content::Genesis { cluster_id } => {
                    self.found(cluster_id);
                    Vec::new()
                }
                Content::Commands(commands) => {
                    let results = self.apply_commands(&commands);
                    self.settle(entry.log_id);
                    self.metrics.apply_seconds.observe(started.elapsed().as_secs_f64());
                    return Outcome { results: proposal.waiters.complete(results).unwrap_or_default() };
                }
            },
        };
        self.settle(entry.log_id);
        Outcome { results }
    }

    fn settle(&self, log_id: LogId) {
        let mut state = self.state.write();
        state.last = Some(log_id);
        self.metrics.keys.set(gauge(state.mvcc.key_count()));
        self.metrics.db_bytes_in_use.set(gauge(state.mvcc.bytes_in_use()));
        self.metrics.revision.set(state.mvcc.revision());
        drop(state);
        self.term.store(log_id.leader_id.term, Ordering::Release);
    }

    fn apply_commands(&self, commands: &[Command]) -> Vec<CommandResult> {
        let mut results = Vec::with_capacity(commands.len());
        for commands in commands.chunks(COMMANDS_PER_LOCK) {
            let mut state = self.state.write();
            for command in commands {
                let applied = state.mvcc.apply(command.clone());
                if !applied.events.is_empty() {
                    self.hub.publish(state.mvcc.revision(), &applied.events);
                }
                self.note_lease(command, &applied.result);
                results.push(applied.result);
            }
            self.revision.store(state.mvcc.revision(), Ordering::Release);
        }
        self.metrics.commands.inc_by(commands.len() as u64);
        results
    }

    fn note_lease(&self, command: &Command, result: &CommandResult) {
        match (command, result) {
            (_, Ok(Response::LeaseGrant(granted))) => self.leases.start(granted.id, granted.ttl),
            (Command::LeaseRevoke { id }, Ok(_)) => self.leases.stop(*id),
            (Command::Compact { revision }, Ok(_)) => {
                self.metrics.compact_revision.set(*revision);
            }
            _ => {}
        }
    }

    fn found(&self, cluster_id: u64) {
        let mut state = self.state.write();
        if state.cluster_id == 0 {
            state.cluster_id = cluster_id;
            self.cluster_id.store(cluster_id, Ordering::Release);
        }
    }

    /// The state as a snapshot; its clone is taken under the lock, everything dear happens after.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        let snapshot_id = state.last.map_or_else(|| "empty".to_owned(), |log_id| log_id.to_string());
        let meta = SnapshotMeta { last_log_id: state.last, last_membership: state.membership.clone(), snapshot_id };
        Snapshot { meta, cluster_id: state.cluster_id, image: state.mvcc.image() }
    }

    /// Replaces the state by a snapshot's. Every watch is rung: what it was at may be gone.
    pub(crate) fn restore(&self, snapshot: Snapshot) {
        let mvcc = State::restore(snapshot.image);
        self.leases.reset(mvcc.leases());
        let mut state = self.state.write();
        self.revision.store(mvcc.revision(), Ordering::Release);
        self.cluster_id.store(snapshot.cluster_id, Ordering::Release);
        let term = snapshot.meta.last_log_id.map_or(0, |log_id| log_id.leader_id.term);
        self.term.store(term, Ordering::Release);
        *state = Applied {
            mvcc,
            cluster_id: snapshot.cluster_id,
            last: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership,
        };
        self.hub.ring_all();
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
