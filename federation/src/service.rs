//! Federation as one component: a session per joined cluster, started and stopped as records come and go, and the
//! judgement over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::LiveLeaf;
use mesh_runtime::{Backoff, Cause, ErrorChain, Shutdown, TaskSet, clock};
use mesh_store::Store;
use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::RangeRequest;
use mesh_types::ClusterName;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

use crate::contract::keys;
use crate::liveness::{self, Settings};
use crate::metrics::Metrics;
use crate::mirror;
use crate::peer::PeerRecord;
use crate::session::{Board, Session, Shared};
use crate::state::{Signs, State};

mod handle;

pub use handle::Handle;

/// How often silence is looked at; steps of a session are judged at once.
const JUDGE_EVERY: Duration = Duration::from_millis(250);
/// A session has nothing to finish that takes longer.
const STOP_WITHIN: Duration = Duration::from_secs(5);

pub struct Options {
    /// The own cluster.
    pub cluster: ClusterName,
    pub store: Arc<dyn Store>,
    /// The own cluster's leaf `remote-<own>`.
    pub leaf: Arc<LiveLeaf>,
    pub liveness: Settings,
    pub metrics: Metrics,
}

/// Why federation cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the peers from the store")]
    Store(#[source] mesh_store::backend::Error),
}

/// State of each joined cluster.
pub type States = Arc<BTreeMap<ClusterName, State>>;

/// Written by the service, read by handles.
type Boards = Arc<RwLock<BTreeMap<ClusterName, Board>>>;

pub struct Service {
    shared: Shared,
    boards: Boards,
    states: watch::Sender<States>,
    nudge: Arc<Notify>,
    sessions: BTreeMap<ClusterName, Running>,
}

struct Running {
    peer: PeerRecord,
    trust: watch::Sender<String>,
    board: Board,
    tasks: TaskSet,
}

impl Service {
    pub fn new(options: Options) -> (Self, Handle) {
        let Options { cluster, store, leaf, liveness, metrics } = options;
        let (states, seen) = watch::channel(States::default());
        let boards = Boards::default();
        let handle = Handle::new(Arc::clone(&store), Arc::clone(&boards), seen);
        let shared = Shared { own: cluster, store, leaf, liveness, metrics };
        let service = Self { shared, boards, states, nudge: Arc::default(), sessions: BTreeMap::new() };
        (service, handle)
    }

    /// Runs until stopped. Sessions stop with it; what is mirrored stays.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        while !shutdown.is_requested() {
            match self.follow_peers(&shutdown).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "peers cannot be followed, trying again");
                    shutdown.unless_requested(backoff.wait()).await;
                }
            }
        }
        for name in self.sessions.keys().cloned().collect::<Vec<_>>() {
            self.stop(&name).await;
        }
        Ok(())
    }

    /// Reads all records, then follows their changes until the watch ends.
    async fn follow_peers(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let store = Arc::clone(&self.shared.store);
        let found = store.range(RangeRequest::prefix(keys::PEERS)).await.map_err(Error::Store)?;
        let wanted: BTreeMap<ClusterName, &[u8]> =
            found.kvs.iter().filter_map(|kv| Some((peer_of(&kv.key)?, &kv.value[..]))).collect();
        let gone: Vec<ClusterName> = self.sessions.keys().filter(|name| !wanted.contains_key(name)).cloned().collect();
        for name in gone {
            self.remove(&name).await;
        }
        match mirror::leftovers(&*store, |name| wanted.contains_key(name)).await {
            Ok(leftovers) => {
                for name in leftovers {
                    self.remove(&name).await;
                }
            }
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "leftovers of former peers cannot be read"),
        }
        for (name, value) in wanted {
            self.start(&name, value, shutdown).await;
        }
        let request = WatchRequest::prefix(keys::PEERS, found.revision + 1);
        let mut changes = store.watch(request).await.map_err(Error::Store)?;
        let mut judge = tokio::time::interval(JUDGE_EVERY);
        judge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.judge();
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = judge.tick() => {}
                () = self.nudge.notified() => {}
                update = changes.next() => match update {
                    Some(WatchUpdate::Events(batch)) => {
                        for event in batch.events {
                            let Some(name) = peer_of(&event.kv.key) else { continue };
                            match event.kind {
                                mesh_store::mvcc::EventKind::Put => self.start(&name, &event.kv.value, shutdown).await,
                                mesh_store::mvcc::EventKind::Delete => self.remove(&name).await,
                            }
                        }
                    }
                    Some(WatchUpdate::Progress { .. }) => {}
                    Some(WatchUpdate::Compacted { .. }) | None => return Ok(()),
                },
            }
        }
    }

    async fn start(&mut self, name: &ClusterName, value: &[u8], shutdown: &Shutdown) {
        let peer = match PeerRecord::decode(&keys::peer(name), value) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::error!(peer = %name, error = %ErrorChain(&error), "peer left out");
                return;
            }
        };
        match self.sessions.get_mut(name) {
            Some(running) if running.peer == peer => return,
            // Its session goes on: what was connected by a CA that is still trusted stays connected.
            Some(running) if running.peer.differs_in_trust_alone(&peer) => {
                running.peer = peer.clone();
                running.trust.send_replace(peer.declaration.trust_bundle_pem.clone());
                return running.board.update(|known| known.peer = peer);
            }
            _ => {}
        }
        self.stop(name).await;
        let tasks = TaskSet::new(shutdown.child());
        let board = Board::new(peer.clone(), Arc::clone(&self.nudge));
        self.boards.write().insert(name.clone(), board.clone());
        let (shared, record, stop) = (self.shared.clone(), peer.clone(), tasks.shutdown().clone());
        let (trust, seen) = watch::channel(peer.declaration.trust_bundle_pem.clone());
        let shown = board.clone();
        tasks.spawn_restarting(format!("session {name}"), Backoff::default(), move || {
            let (shared, record, board, stop) = (shared.clone(), record.clone(), shown.clone(), stop.clone());
            let trust = seen.clone();
            async move {
                Box::pin(Session::open(record, trust, shared, board).await?.run(stop)).await;
                Ok::<(), mirror::Error>(())
            }
        });
        tracing::info!(peer = %name, id = %peer.declaration.id, "session started");
        self.sessions.insert(name.clone(), Running { peer, trust, board, tasks });
    }

    /// Ends the session; what it mirrored stays.
    async fn stop(&mut self, name: &ClusterName) {
        let Some(running) = self.sessions.remove(name) else { return };
        running.tasks.shutdown().trigger(Cause::Requested(format!("session to {name} ends")));
        if let Err(late) = running.tasks.join(STOP_WITHIN).await {
            tracing::warn!(peer = %name, error = %late, "session did not stop in time");
        }
    }

    /// Ends the session, then removes what it mirrored.
    async fn remove(&mut self, name: &ClusterName) {
        self.stop(name).await;
        self.boards.write().remove(name);
        self.shared.metrics.forget(name);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));
        while let Err(error) = mirror::drain(&*self.shared.store, name).await {
            tracing::warn!(peer = %name, error = %ErrorChain(&error), "mirrored facts not removed yet");
            if backoff.failures() == 5 {
                // The next start finds them as leftovers.
                return;
            }
            backoff.wait().await;
        }
        tracing::info!(peer = %name, "former peer's facts removed");
    }

    /// Judges every peer, and publishes what changed.
    fn judge(&self) {
        let now = Instant::now();
        let boards: Vec<(ClusterName, Board)> =
            self.boards.read().iter().map(|(name, board)| (name.clone(), board.clone())).collect();
        let judged: Vec<(State, Signs)> = boards.iter().map(|(_, board)| board.judged()).collect();
        let is_isolated = liveness::is_isolated(now, &judged, self.shared.liveness);
        let mut states = BTreeMap::new();
        for ((name, board), (previous, signs)) in boards.iter().zip(judged) {
            let state = liveness::judge(now, previous, &signs, self.shared.liveness, is_isolated);
            let entered = board.enter(state, is_isolated, clock::unix_nanos());
            if let Some(reason) = entered {
                tracing::info!(peer = %name, %previous, %state, reason, "state entered");
            }
            self.shared.metrics.show(name, &board.snapshot());
            states.insert(name.clone(), state);
        }
        self.states.send_if_modified(|known| {
            let is_news = **known != states;
            if is_news {
                *known = Arc::new(states);
            }
            is_news
        });
    }
}

fn peer_of(key: &[u8]) -> Option<ClusterName> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix(keys::PEERS)?;
    ClusterName::new(name).ok()
}
