//! The applied state of this replica, shared between the one task that changes it and all that read it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use mesh_store_mvcc::{Command, LeaseId, Response, State};
use openraft::EntryPayload;
use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use super::lease_clock::LeaseClock;
use super::sessions::Sessions;
use super::snapshot::Snapshot;
use super::tickets::Tickets;
use super::types::{CommandResult, Content, Entry, LogId, Membership, NodeId, Origin, Part, SnapshotMeta, Ticket};
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
    pub(crate) sessions: Sessions,
}

/// Changed only by openraft's state machine task; read by everyone.
pub(crate) struct Replica {
    pub(crate) state: RwLock<Applied>,
    pub(crate) hub: Arc<WatchHub>,
    pub(crate) leases: LeaseClock,
    pub(crate) tickets: Tickets,
    random: Mutex<StdRng>,
    pub(crate) metrics: Metrics,
    /// The index of the last entry applied, for those who wait for one.
    applied: watch::Sender<u64>,
    /// Copies of what `state` holds, for readers that need nothing else.
    revision: AtomicI64,
    cluster_id: AtomicU64,
    term: AtomicU64,
}

impl Replica {
    /// `seed` is a number that no earlier run of this replica has used.
    pub(crate) fn new(id: NodeId, seed: u64, metrics: Metrics) -> Self {
        let state = Applied::default();
        let revision = AtomicI64::new(state.mvcc.revision());
        Self {
            state: RwLock::new(state),
            hub: Arc::default(),
            leases: LeaseClock::default(),
            tickets: Tickets::new(id, seed),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            applied: watch::channel(0).0,
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

    /// A number that looks like any other.
    pub(crate) fn random(&self) -> u64 {
        self.random.lock().random()
    }

    /// Waits until this entry is applied here.
    pub(crate) async fn applied(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as `self`.
        drop(applied.wait_for(|applied| *applied >= index).await);
    }

    /// Waits until there is no such lease any more here.
    pub(crate) async fn lease_is_gone(&self, id: LeaseId) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as `self`.
        drop(applied.wait_for(|_| self.leases.deadline(id).is_none()).await);
    }

    /// Gives every lease its full time again.
    pub(crate) fn restart_leases(&self) {
        let state = self.state.read();
        self.leases.reset(state.mvcc.leases());
    }

    /// The replicas of the group as applied here, in order of their ids.
    pub(crate) fn members(&self) -> Vec<Member> {
        let state = self.state.read();
        let membership = state.membership.membership();
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        membership.nodes().map(|(id, peer)| peer.member(*id, !voters.contains(id))).collect()
    }

    /// Applies one log entry and answers the clients that wait for it.
    pub(crate) fn apply(&self, entry: Entry) {
        let started = Instant::now();
        let mut answers = Vec::new();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.state.write().membership = Membership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(proposal) => {
                match proposal.content {
                    Content::Genesis { cluster_id } => self.found(cluster_id),
                    Content::Parts(parts) => {
                        for part in parts.iter() {
                            answers.extend(self.apply_part(part, entry.log_id.leader_id.term));
                        }
                        self.metrics.apply_seconds.observe(started.elapsed().as_secs_f64());
                    }
                }
                proposal.slot.release();
            }
        }
        self.settle(entry.log_id);
        for (ticket, results) in answers {
            self.tickets.complete(&ticket, results);
        }
    }

    /// Executes a part, unless it was before, or is void. `term` is the one of its entry.
    fn apply_part(&self, part: &Part, term: u64) -> Option<(Ticket, Vec<CommandResult>)> {
        match part.origin {
            Origin::Clients(ticket) => {
                let first = self.state.write().sessions.admit(&ticket);
                first.then(|| (ticket, self.apply_commands(&part.commands)))
            }
            Origin::Leader { term: decided } => {
                if decided == term {
                    self.apply_commands(&part.commands);
                }
                None
            }
        }
    }

    fn settle(&self, log_id: LogId) {
        let mut state = self.state.write();
        state.last = Some(log_id);
        self.metrics.keys.set(gauge(state.mvcc.key_count()));
        self.metrics.db_bytes_in_use.set(gauge(state.mvcc.bytes_in_use()));
        self.metrics.revision.set(state.mvcc.revision());
        drop(state);
        self.term.store(log_id.leader_id.term, Ordering::Release);
        self.applied.send_replace(log_id.index);
    }

    fn apply_commands(&self, commands: &[Command]) -> Vec<CommandResult> {
        let mut results = Vec::with_capacity(commands.len());
        for commands in commands.chunks(COMMANDS_PER_LOCK) {
            let mut state = self.state.write();
            for command in commands {
                let applied = state.mvcc.apply(command);
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
            (Command::LeaseRevoke { id }, _) => self.leases.stop(*id),
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
        Snapshot { meta, cluster_id: state.cluster_id, sessions: state.sessions.clone(), image: state.mvcc.image() }
    }

    /// Replaces the state by a snapshot's. Every watch is rung: what it was at may be gone.
    pub(crate) fn restore(&self, snapshot: Snapshot) {
        let mvcc = State::restore(snapshot.image);
        let last = snapshot.meta.last_log_id;
        let mut state = self.state.write();
        self.revision.store(mvcc.revision(), Ordering::Release);
        self.cluster_id.store(snapshot.cluster_id, Ordering::Release);
        self.term.store(last.map_or(0, |log_id| log_id.leader_id.term), Ordering::Release);
        *state = Applied {
            mvcc,
            cluster_id: snapshot.cluster_id,
            last: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership,
            sessions: snapshot.sessions,
        };
        self.leases.reset(state.mvcc.leases());
        self.tickets.skip(&state.sessions);
        self.hub.ring_all();
        drop(state);
        self.applied.send_replace(last.map_or(0, |log_id| log_id.index));
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
